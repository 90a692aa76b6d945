"""The Open Inference Protocol, version 2: what clients of Triton, KServe and MLServer speak, over REST under `/v2`."""
