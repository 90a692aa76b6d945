"""Selection of the runtime from the settings `runtime`, `device` and `precision`.

`auto` means TensorFlow if it is installed and finds a GPU, otherwise OpenVINO, otherwise TensorFlow on the CPU. A
runtime or device that was requested explicitly and isn't available is an error, never a silent fallback.
"""

import importlib.util
from pathlib import Path
from typing import Final, Literal

from cifar10_serving.artifacts.metadata import Precision, RuntimeName
from cifar10_serving.errors import RuntimeUnavailableError
from cifar10_serving.runtimes.base import DEFAULT_MAX_BATCH_SIZE, Runtime

EXTRA: Final[dict[RuntimeName, str]] = {"openvino": "serve", "tensorflow": "gpu"}
GPU_DEVICE_FILES: Final = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd"))
"""Created by the drivers of NVIDIA, WSL and AMD; without any of them, TensorFlow finds no GPU and isn't imported."""


def installed(name: RuntimeName) -> bool:
    """Return whether the framework is installed, without importing it."""
    return importlib.util.find_spec(name) is not None


def open_runtime(
    runtime: RuntimeName | Literal["auto"] = "auto",
    device: str = "auto",
    precision: Precision | Literal["auto"] = "float32",
    *,
    max_batch_size: int = DEFAULT_MAX_BATCH_SIZE,
    compiled_models: Path | None = None,
    serves_http: bool = True,
) -> Runtime:
    """Open the runtime for these settings.

    Args:
        runtime: `openvino`, `tensorflow`, or `auto` for the rule above.
        device: `cpu`, `gpu`, `gpu:N`, or `auto`: a GPU if the runtime has one.
        precision: `float32`, `bfloat16` (OpenVINO, on a CPU that supports it), `int8` (OpenVINO), or `auto` for all
            that the device computes natively.
        max_batch_size: maximum number of images per batch; a GPU is prepared for batches up to this size.
        compiled_models: folder of OpenVINO's cache of compiled models; None for no cache.
        serves_http: whether OpenVINO leaves a core to HTTP for quick models.

    Raises:
        RuntimeUnavailableError: the requested runtime isn't installed, or the device isn't available.
    """
    chosen = _choose(device, precision) if runtime == "auto" else runtime
    if not installed(chosen):
        raise RuntimeUnavailableError(
            f"runtime {chosen} is not installed"
            + (f", and device {device} needs it" if runtime == "auto" and device.startswith("gpu") else ""),
            expected=f"the package {chosen}",
            remedy=f"install this project's extra '{EXTRA[chosen]}', or change the settings runtime and device",
        )
    if chosen == "openvino":
        if device.startswith("gpu"):
            raise RuntimeUnavailableError(
                f"device {device} with runtime openvino",
                expected="cpu or auto: OpenVINO is this project's CPU runtime, TensorFlow its GPU runtime",
                remedy="set runtime to tensorflow, or device to cpu",
            )
        from cifar10_serving.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(precision, compiled_models=compiled_models, serves_http=serves_http)
    from cifar10_serving.runtimes.tensorflow import TensorFlowRuntime

    place = ("gpu" if _tensorflow_sees_gpu() else "cpu") if device == "auto" else device
    return TensorFlowRuntime(place, "float32" if precision == "auto" else precision, max_batch_size=max_batch_size)


def _choose(device: str, precision: Precision | Literal["auto"]) -> RuntimeName:
    if device.startswith("gpu") or not installed("openvino"):
        return "tensorflow"
    if device == "auto" and precision in ("auto", "float32") and installed("tensorflow") and _tensorflow_sees_gpu():
        return "tensorflow"
    return "openvino"


def _tensorflow_sees_gpu() -> bool:
    if not any(file.exists() for file in GPU_DEVICE_FILES):
        return False
    from cifar10_serving.runtimes.tensorflow import sees_gpu

    return sees_gpu()
