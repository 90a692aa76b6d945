"""The SavedModel as used by the alternatives on OpenVINO; images are decoded as in `bench.alternatives.saved_model`.

OpenVINO reads TensorFlow's SavedModel directly:
https://docs.openvino.ai/2025/openvino-workflow/model-preparation/convert-model-tensorflow.html
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.alternatives.saved_model import FOLDER_VARIABLE, input_shape

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # see cifar10_serving/runtimes/telemetry.py
import openvino  # noqa: E402  # after the line above

PRECISION_VARIABLE = "BENCH_PRECISION"
"""The environment variable with OpenVINO's INFERENCE_PRECISION_HINT, such as f32; without it, OpenVINO chooses."""
THREADS_VARIABLE = "BENCH_INFERENCE_THREADS"
"""The environment variable with the threads of a process, where several processes share the cores."""


def compile_saved_model(**properties: Any) -> Any:
    """Compile the SavedModel whose folder the environment names, in the precision and for the threads that it names.

    Without INFERENCE_PRECISION_HINT, OpenVINO computes in bfloat16 where the CPU has instructions for it:
    https://docs.openvino.ai/2025/openvino-workflow/running-inference/optimize-inference/precision-control.html.
    INFERENCE_NUM_THREADS limits a process; as each one would pin its thread to the first core, pinning is turned off:
    https://docs.openvino.ai/2025/openvino-workflow/running-inference/inference-devices-and-modes/cpu-device/performance-hint-and-thread-scheduling.html
    """
    core = openvino.Core()
    precision = os.environ.get(PRECISION_VARIABLE)
    if precision:
        properties["INFERENCE_PRECISION_HINT"] = precision
    threads = os.environ.get(THREADS_VARIABLE)
    if threads:
        properties |= {"INFERENCE_NUM_THREADS": int(threads), "ENABLE_CPU_PINNING": False}
    compiled = core.compile_model(core.read_model(Path(os.environ[FOLDER_VARIABLE])), "CPU", properties)
    infer(compiled.create_infer_request(), np.zeros((1, *input_shape()), np.uint8))
    told = ("INFERENCE_PRECISION_HINT", "NUM_STREAMS", "INFERENCE_NUM_THREADS", "ENABLE_CPU_PINNING")
    print("OpenVINO:", {name: compiled.get_property(name) for name in told}, flush=True)
    return compiled


def infer(request: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return probabilities (n, classes) for images (n, height, width, 3) in RGB; they are valid until the next call.

    `share_inputs` and `share_outputs` avoid copies:
    https://docs.openvino.ai/2025/openvino-workflow/running-inference/inference-request/python-api-advanced-inference.html
    """
    found: NDArray[np.float32] = request.infer([images], share_inputs=True, share_outputs=True)[0]
    return found
