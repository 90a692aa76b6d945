"""TensorFlow Serving's REST interface: what its clients speak, under `/v1`."""
