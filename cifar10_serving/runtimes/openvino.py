"""OpenVINO on the CPU: loads the SavedModel through its TensorFlow frontend, or a network in OpenVINO's format (IR).

The only module of the project that imports OpenVINO. https://docs.openvino.ai, "CPU device".
"""

import io
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import openvino

from cifar10_serving.artifacts.files import read_regular
from cifar10_serving.artifacts.graph_ops import allowed_ops_digest, check_graph
from cifar10_serving.artifacts.ir_graph import MAX_IR_BYTES, check_ir
from cifar10_serving.artifacts.metadata import (
    CHANNELS,
    INT8_FILE,
    INT8_WEIGHTS_FILE,
    IR_FILE,
    IR_WEIGHTS_FILE,
    MAX_FILE_BYTES,
    MAX_SIDE,
    MIN_SIDE,
    SAVED_MODEL_FILE,
    InputShape,
    Precision,
    RuntimeName,
)
from cifar10_serving.artifacts.saved_model import open_saved_model
from cifar10_serving.errors import ArtifactCorruptError, ArtifactError, ModelLoadError, RuntimeUnavailableError
from cifar10_serving.runtimes.base import DEFAULT_MAX_BATCH_SIZE, Images, Probabilities, batch_sizes
from cifar10_serving.runtimes.compiled_models import CompiledModels, KeptModel, Timing, key_of
from cifar10_serving.runtimes.machine import usable_cores
from cifar10_serving.runtimes.request_cost import request_s

logger = logging.getLogger(__name__)

DEVICE: Final = "CPU"
CLEARLY_QUICK: Final = 0.5
CLEARLY_SLOW: Final = 4.0
"""Factor of the threshold beyond which a repeated measurement would not change the decision."""
TIMED_ROWS: Final = 8
TIMED_ROUNDS: Final = 5
PRECISION_HINT: Final[dict[Precision, Any]] = {
    "float32": openvino.Type.f32,
    "bfloat16": openvino.Type.bf16,
    "int8": openvino.Type.f32,  # of the layers that were not quantized
}


class OpenVinoRuntime:
    """OpenVINO's CPU device.

    The first load measures how calls should share the cores. A model is quick if all cores together take no longer for
    an image than one core takes for the rest of its request: then HTTP needs a core of its own. Otherwise every core
    computes a batch of its own, unless that is clearly slower than one call on all cores (`Timing.splitting_pays`).
    A call that is alone always gets all cores.

    Args:
        precision: the precision of `load` without one; `auto` allows all that the CPU computes natively, and int8,
            for which every CPU has some instructions.
        compiled_models: folder of the cache of compiled models; None for no cache.
        serves_http: whether a quick model leaves a core to HTTP; scoring without HTTP computes on every core.

    Raises:
        RuntimeUnavailableError: bfloat16 on a CPU without it (OpenVINO would silently fall back to float32).
    """

    name: RuntimeName = "openvino"
    device = "cpu"

    def __init__(
        self,
        precision: Precision | Literal["auto"] = "float32",
        *,
        compiled_models: Path | None = None,
        serves_http: bool = True,
    ) -> None:
        self._serves_http = serves_http
        self.version = str(openvino.__version__).split("-")[0]
        self._core = openvino.Core()
        self._quick_s = request_s()
        self._compiled_models = CompiledModels(compiled_models)
        self._keeping = ThreadPoolExecutor(1, thread_name_prefix="compiled-models")
        native: tuple[Precision, ...] = ("float32", *(("bfloat16",) if has_bfloat16(self._core) else ()), "int8")
        if precision != "auto" and precision not in native:
            raise RuntimeUnavailableError(
                f"precision {precision} on a CPU without {precision} instructions",
                expected=f"one of {', '.join(native)}",
                remedy="set precision to auto or float32",
            )
        self.precisions = native if precision == "auto" else (precision,)
        self.precision: Precision = self.precisions[0]

    def measured_image_s(self, folder: Path, precision: Precision) -> float | None:
        """Return the cached time; see `cifar10_serving.runtimes.base.Runtime.measured_image_s`."""
        try:
            timing = self._compiled_models.find_timing(self._key(folder, precision))
        except (OSError, ArtifactError):  # `load` says why
            return None
        return timing.image_s if timing is not None else None

    def load(self, folder: Path, precision: Precision | None = None) -> "OpenVinoModel":
        """Load a version; see `cifar10_serving.runtimes.base.Runtime.load`."""
        precision = precision or self.precision
        try:
            return self._load(
                _Network(self._core, folder, precision, self._compiled_models, self._key(folder, precision))
            )
        except (OSError, RuntimeError, ArtifactError, ValueError) as error:
            raise ModelLoadError(
                f"OpenVINO {self.version} can't load {folder}: {_last_line(error)}",
                remedy="restore the version, or publish it again",
            ) from None

    def _load(self, network: "_Network") -> "OpenVinoModel":
        cores, timing = usable_cores(), network.known_timing
        one_call = network.model(ALL_CORES_A_CALL)
        if timing is None:
            timing = Timing(one_call_s=_measured_image_s(one_call, 1))
        elif CLEARLY_QUICK < timing.one_call_s / self._quick_s < CLEARLY_SLOW:
            # Other work on the machine only makes a call longer, so the shortest time is the right one.
            one_call_s = min(timing.one_call_s, _measured_image_s(one_call, 1))
            timing = Timing(one_call_s=one_call_s, a_core_a_call_s=timing.a_core_a_call_s)
        model, is_quick = one_call, self._serves_http and timing.one_call_s <= self._quick_s
        if cores > 1 and (is_quick or timing.splitting_pays):
            model = network.model(_a_core_a_call(cores - 1 if is_quick else cores), alone=one_call)
            if not is_quick and timing.a_core_a_call_s is None:
                timing = Timing(one_call_s=timing.one_call_s, a_core_a_call_s=_measured_image_s(model, cores))
                model = model if timing.splitting_pays else one_call
        calls = (
            "all cores share a call"
            if model is one_call
            else f"{model.parallel_calls} of {cores} cores have calls of their own"
        )
        name = f"{network.folder.parent.name} version {network.folder.name}"
        logger.info("%s takes %.0f µs per image in %s; %s", name, timing.image_s * 1e6, network.precision, calls)
        model.image_s = timing.image_s
        model.prepare()
        if network.is_to_keep:
            self._keeping.submit(network.keep, model, timing)
        return model

    def _key(self, folder: Path, precision: Precision) -> str:
        """Return the key of a compiled model in the cache.

        Raises:
            OSError: the network can't be read.
        """
        file, *others = _network_files(folder, precision)
        return key_of(
            folder / file,
            {
                **{other: key_of(folder / other, {}) for other in others},
                "openvino": openvino.__version__,
                "cpu": self._core.get_property(DEVICE, "FULL_DEVICE_NAME"),
                "capabilities": ", ".join(self._core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")),
                "cores": str(usable_cores()),
                "precision": precision,
                "allowed_ops": allowed_ops_digest(),
            },
        )


@dataclass(frozen=True)
class _Sharing:
    """Division of the cores among calls: OpenVINO's settings, and the number of concurrent calls."""

    settings: Mapping[str, Any]
    parallel_calls: int = 1


ALL_CORES_A_CALL: Final = _Sharing({"PERFORMANCE_HINT": "LATENCY"})


def _a_core_a_call(calls: int) -> _Sharing:
    """Return the settings for this many concurrent calls of one core each."""
    return _Sharing({"NUM_STREAMS": calls, "INFERENCE_NUM_THREADS": calls}, parallel_calls=calls)


def _network_files(folder: Path, precision: Precision) -> tuple[str, ...]:
    """Return the files of a version's network: the int8 one, a SavedModel, or an IR if there is no SavedModel."""
    if precision == "int8":
        return INT8_FILE, INT8_WEIGHTS_FILE
    is_ir = not (folder / SAVED_MODEL_FILE).exists() and (folder / IR_FILE).exists()
    return (IR_FILE, IR_WEIGHTS_FILE) if is_ir else (SAVED_MODEL_FILE,)


def _last_line(error: Exception) -> str:
    if isinstance(error, ArtifactError):
        return error.problem
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


class _Network:
    """The network in a version's folder: cached by an earlier load, or checked, read and compiled.

    A cached one was checked before it was compiled: the key depends on the file's content and on the allowed ops.
    """

    def __init__(self, core: openvino.Core, folder: Path, precision: Precision, kept: CompiledModels, key: str) -> None:
        self._core = core
        self.folder = folder
        self.precision: Precision = precision
        self._settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": PRECISION_HINT[precision]}
        self._kept = kept
        self._key = key
        self._found = kept.find(key)
        self._read: openvino.Model | None = None

    @property
    def known_timing(self) -> Timing | None:
        """The timing that an earlier load measured."""
        return self._found.timing if self._found is not None else None

    def model(self, sharing: _Sharing, alone: "OpenVinoModel | None" = None) -> "OpenVinoModel":
        """Return a model that is ready to compute; cached content doesn't depend on how calls share the cores."""
        settings = {**self._settings, **sharing.settings}
        if self._found is not None:
            try:
                content = openvino.Tensor(self._found.content, shared_memory=True)
                imported = self._core.import_model(content, DEVICE, settings)
                return OpenVinoModel(
                    imported, self.precision, sharing.parallel_calls, alone=alone, imported_from=self._found
                )
            except RuntimeError as error:
                logger.warning("compiling %s again: %s", self.folder, str(error).strip().splitlines()[-1])
                self._found = None
        if self._read is None:
            self._read = self._checked()
        compiled = self._core.compile_model(self._read, DEVICE, settings)
        return OpenVinoModel(compiled, self.precision, sharing.parallel_calls, alone=alone)

    def _checked(self) -> openvino.Model:
        file, *weights_files = _network_files(self.folder, self.precision)
        if not weights_files:
            with open_saved_model(self.folder) as (stream, message):
                check_graph(stream, message, self.folder / SAVED_MODEL_FILE)
            return self._core.read_model(self.folder)
        # From memory: the checked document is the one that OpenVINO reads.
        document = read_regular(self.folder, file, max_bytes=MAX_IR_BYTES)
        check_ir(document, self.folder / file)
        weights = read_regular(self.folder, weights_files[0], max_bytes=MAX_FILE_BYTES)
        return self._core.read_model(document, weights)

    @property
    def is_to_keep(self) -> bool:
        """True if caching would make the next load cheaper."""
        return self._found is None and self._kept.is_on

    def keep(self, model: "OpenVinoModel", timing: Timing) -> None:
        """Cache the compiled model for the next load."""
        try:
            self._kept.keep(self._key, timing, model.exported())
        except RuntimeError as error:
            logger.warning("the compiled model of %s is not cached: %s", self.folder, error)


class OpenVinoModel:
    """A compiled model, and inference requests that threads borrow from it.

    `input_shape` is height, width and channels of an image; `image_s` is set by the load that measured it.

    Args:
        precision: the precision in which it was compiled.
        parallel_calls: number of concurrent calls that make sense.
        alone: the model for single calls; None for this one.
        imported_from: the cached content, which may hold its weights.

    Raises:
        ArtifactCorruptError: its input is not images of one size.
    """

    warm_up_rows = batch_sizes(DEFAULT_MAX_BATCH_SIZE)

    def __init__(
        self,
        compiled: openvino.CompiledModel,
        precision: Precision,
        parallel_calls: int,
        *,
        alone: "OpenVinoModel | None" = None,
        imported_from: KeptModel | None = None,
    ) -> None:
        self.precision: Precision = precision
        self.image_s: float | None = None
        self.parallel_calls = parallel_calls
        self._alone = alone
        self._imported_from = imported_from
        self._compiled = compiled
        self.input_shape = _input_shape(compiled)
        self._idle_calls: deque[_Call] = deque()

    def predict(self, images: Images) -> Probabilities:
        """Return probabilities; see `cifar10_serving.runtimes.base.LoadedModel.predict`."""
        try:
            call = self._idle_calls.pop()
        except IndexError:
            call = _Call(self._compiled.create_infer_request(), self.input_shape)
        try:
            return call.compute(images)
        finally:
            self._idle_calls.append(call)

    def predict_alone(self, images: Images) -> Probabilities:
        """Return probabilities; see `cifar10_serving.runtimes.base.LoadedModel.predict_alone`."""
        return (self._alone or self).predict(images)

    def prepare(self) -> None:
        """Make OpenVINO create its own copy of the weights, and release the memory of the original ones."""
        if self._imported_from is not None:
            for model in (self, self._alone):
                if model is not None:
                    model.predict(np.zeros((1, *self.input_shape), np.uint8))
            self._imported_from.release_pages()

    def exported(self) -> bytes:
        """Return content that OpenVINO imports faster than it reads and compiles the SavedModel."""
        stream = io.BytesIO()
        self._compiled.export_model(stream)
        return stream.getvalue()


class _Call:
    """An inference request with its own input; passing arrays to OpenVINO takes longer than copying them."""

    def __init__(self, request: openvino.InferRequest, input_shape: InputShape) -> None:
        self._request = request
        self._input = openvino.Tensor(openvino.Type.u8, [0, *input_shape])

    def compute(self, images: Images) -> Probabilities:
        if self._input.shape[0] != len(images):
            self._input = openvino.Tensor(openvino.Type.u8, images.shape)
            self._request.set_input_tensor(self._input)
        self._input.data[:] = images
        self._request.infer()
        return np.array(self._request.get_output_tensor(0).data, np.float32)


def _input_shape(compiled: openvino.CompiledModel) -> InputShape:
    """Return the image size that a network declares, with a bound for untrusted ones."""
    found = [None if size.is_dynamic else size.get_length() for size in compiled.input(0).partial_shape]
    match found:
        case [_, int(height), int(width), int(channels)] if channels == CHANNELS:
            if all(MIN_SIDE <= side <= MAX_SIDE for side in (height, width)):
                return height, width, channels
    raise ArtifactCorruptError(
        f"its input has the shape {found}", expected=f"[-1, height, width, 3], {MIN_SIDE} to {MAX_SIDE} pixels a side"
    )


def _measured_image_s(model: OpenVinoModel, calls: int) -> float:
    """Return the time per image when this many threads compute batches at once: the shortest of a few rounds."""
    images = np.zeros((TIMED_ROWS, *model.input_shape), np.uint8)
    together = threading.Barrier(calls)

    def compute(_: int) -> tuple[float, float]:
        together.wait()
        start_s = time.perf_counter()
        model.predict(images)
        return start_s, time.perf_counter()

    def round_s() -> float:
        spans = list(threads.map(compute, range(calls)))
        return max(end_s for _, end_s in spans) - min(start_s for start_s, _ in spans)

    with ThreadPoolExecutor(calls, thread_name_prefix="measuring") as threads:
        round_s()  # the first call is slower
        return min(round_s() for _ in range(TIMED_ROUNDS)) / (TIMED_ROWS * calls)


def has_bfloat16(core: openvino.Core | None = None) -> bool:
    """Return whether this CPU computes in bfloat16 natively."""
    return "BF16" in (core or openvino.Core()).get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
