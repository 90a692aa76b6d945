"""Triton's Python backend: decode the images of all requests of a batch, and infer them in one call of OpenVINO.

https://github.com/triton-inference-server/python_backend#usage: `TritonPythonModel` with `initialize` and `execute`;
`execute` gets the requests of a dynamic batch.
"""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from bench.alternatives.openvino_model import compile_saved_model, infer
from bench.alternatives.saved_model import decode


class TritonPythonModel:
    """The SavedModel; input `image`: BYTES (n, 1), encoded image files; output `probabilities` (n, classes)."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002 - Triton's own signature
        """Load the model, once in each instance, which is a process."""
        self.request = compile_saved_model(PERFORMANCE_HINT="LATENCY").create_infer_request()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return one response per request."""
        encoded = [pb_utils.get_input_tensor_by_name(request, "image").as_numpy().reshape(-1) for request in requests]
        images = np.stack([decode(content) for contents in encoded for content in contents])
        probabilities = infer(self.request, images)
        ends = np.cumsum([len(contents) for contents in encoded])[:-1]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("probabilities", np.ascontiguousarray(rows))])
            for rows in np.split(probabilities, ends)
        ]
