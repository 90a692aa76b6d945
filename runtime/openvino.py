"""OpenVINO on the CPU: reads the SavedModel as it stands, through its TensorFlow frontend.

The only module of the project that imports OpenVINO. https://docs.openvino.ai, "CPU device".
"""

from collections import deque
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino

from catalog.errors import ModelLoadError, RuntimeUnavailableError
from catalog.metadata import Precision, RuntimeName
from runtime.base import Images, Probabilities

DEVICE: Final = "CPU"
PRECISION_HINT: Final[dict[Precision, Any]] = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}


class OpenVinoRuntime:
    """OpenVINO's CPU device at one precision.

    Raises:
        RuntimeUnavailableError: bfloat16 on a CPU without it (OpenVINO would fall back to float32 in silence).
    """

    name: RuntimeName = "openvino"
    device = "cpu"

    def __init__(self, precision: Precision = "float32") -> None:
        self.precision: Precision = precision
        self.version = str(openvino.__version__).split("-")[0]
        self._core = openvino.Core()
        if precision == "bfloat16" and not has_bfloat16(self._core):
            raise RuntimeUnavailableError(
                "precision bfloat16 on a CPU without bfloat16 instructions",
                expected=f"one of {', '.join(self._core.get_property(DEVICE, 'OPTIMIZATION_CAPABILITIES'))}",
                remedy="set precision to float32",
            )

    def load(self, folder: Path) -> "OpenVinoModel":
        """See `runtime.base.Runtime.load`."""
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": PRECISION_HINT[self.precision]}
        try:
            compiled = self._core.compile_model(self._core.read_model(folder), DEVICE, settings)
        except RuntimeError as error:
            raise ModelLoadError(
                f"OpenVINO {self.version} can't load {folder}: {str(error).strip().splitlines()[-1]}",
                remedy="restore the version, or publish it again",
            ) from None
        return OpenVinoModel(compiled)


class OpenVinoModel:
    """A compiled model and the inference requests that threads borrow from it."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._compiled = compiled
        self._idle_requests: deque[openvino.InferRequest] = deque()

    def predict(self, images: Images) -> Probabilities:
        """See `runtime.base.LoadedModel.predict`."""
        try:
            request = self._idle_requests.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        try:
            result = request.infer([np.ascontiguousarray(images)], share_inputs=True)
            return np.asarray(result[0], np.float32)
        finally:
            self._idle_requests.append(request)


def has_bfloat16(core: openvino.Core | None = None) -> bool:
    """Whether this CPU computes in bfloat16 natively."""
    return "BF16" in (core or openvino.Core()).get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
