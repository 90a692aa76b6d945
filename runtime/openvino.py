"""OpenVINO on the CPU: reads the SavedModel as it stands, through its TensorFlow frontend.

The only module of the project that imports OpenVINO. https://docs.openvino.ai, "CPU device".
"""

import math
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino

from catalog.errors import ModelLoadError, RuntimeUnavailableError
from catalog.labels import IMAGE_SHAPE
from catalog.metadata import Precision, RuntimeName
from runtime.base import DEFAULT_MAX_BATCH_ROWS, Images, Probabilities
from runtime.cores import usable_cores
from runtime.fixed_sizes import batch_sizes

DEVICE: Final = "CPU"
QUICK_S: Final = 0.001
"""Where an image takes no longer, the cores that share a call meet more often than they compute."""
TIMED_ROWS: Final = 8
TIMED_CALLS: Final = 5
CLEARLY_SLOW: Final = 4
"""So many times as long as what is quick, no further call makes an image quick."""
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
        """See `runtime.base.Runtime.load`.

        All cores work on one call, unless that makes so little of a call that each core may as well have its own.
        """
        cores = usable_cores()
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": PRECISION_HINT[self.precision]}
        try:
            network = self._core.read_model(folder)
            model = OpenVinoModel(
                self._core.compile_model(network, DEVICE, {**settings, "PERFORMANCE_HINT": "LATENCY"}), parallel_calls=1
            )
            if cores == 1 or _image_s(model) > QUICK_S:
                return model
            # One core is left to whoever makes the calls.
            threads = {"NUM_STREAMS": cores - 1, "INFERENCE_NUM_THREADS": cores - 1}
            return OpenVinoModel(
                self._core.compile_model(network, DEVICE, {**settings, **threads}), parallel_calls=cores - 1
            )
        except RuntimeError as error:
            raise ModelLoadError(
                f"OpenVINO {self.version} can't load {folder}: {str(error).strip().splitlines()[-1]}",
                remedy="restore the version, or publish it again",
            ) from None


class OpenVinoModel:
    """A compiled model and the calls that threads borrow from it."""

    warm_up_rows = batch_sizes(DEFAULT_MAX_BATCH_ROWS)

    def __init__(self, compiled: openvino.CompiledModel, *, parallel_calls: int) -> None:
        self.parallel_calls = parallel_calls
        self._compiled = compiled
        self._idle_calls: deque[_Call] = deque()

    def predict(self, images: Images) -> Probabilities:
        """See `runtime.base.LoadedModel.predict`."""
        try:
            call = self._idle_calls.pop()
        except IndexError:
            call = _Call(self._compiled.create_infer_request())
        try:
            return call.compute(images)
        finally:
            self._idle_calls.append(call)


class _Call:
    """An inference request with an input of its own; handing arrays to OpenVINO takes longer than copying them."""

    def __init__(self, request: openvino.InferRequest) -> None:
        self._request = request
        self._input = openvino.Tensor(openvino.Type.u8, [0, *IMAGE_SHAPE])

    def compute(self, images: Images) -> Probabilities:
        if self._input.shape[0] != len(images):
            self._input = openvino.Tensor(openvino.Type.u8, images.shape)
            self._request.set_input_tensor(self._input)
        self._input.data[:] = images
        self._request.infer()
        return np.array(self._request.get_output_tensor(0).data, np.float32)


def _image_s(model: OpenVinoModel) -> float:
    """The time for an image among others: of a few calls the shortest, or the first that leaves no doubt."""
    images = np.zeros((TIMED_ROWS, *IMAGE_SHAPE), np.uint8)
    model.predict(images)  # the first prepares what the others find ready
    shortest_s = math.inf
    for _ in range(TIMED_CALLS):
        start_s = time.perf_counter()
        model.predict(images)
        shortest_s = min(shortest_s, (time.perf_counter() - start_s) / TIMED_ROWS)
        if not QUICK_S < shortest_s < CLEARLY_SLOW * QUICK_S:
            break
    return shortest_s


def has_bfloat16(core: openvino.Core | None = None) -> bool:
    """Whether this CPU computes in bfloat16 natively."""
    return "BF16" in (core or openvino.Core()).get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
