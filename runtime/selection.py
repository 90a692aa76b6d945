"""Which runtime computes on this machine, from the settings `runtime`, `device` and `precision`.

The rule for `auto`: TensorFlow where it is installed and sees a GPU, else OpenVINO, else TensorFlow on the
CPU. What was asked for by name and isn't there is an error, never a silent fallback.
"""

import importlib.util
from typing import Literal

from catalog.errors import RuntimeUnavailableError
from catalog.metadata import Precision
from runtime.base import Runtime, RuntimeName

INSTALL = {"openvino": "serve", "tensorflow": "gpu"}


def installed(name: RuntimeName) -> bool:
    """Whether the framework is installed here; doesn't import it."""
    return importlib.util.find_spec(name) is not None


def open_runtime(
    runtime: RuntimeName | Literal["auto"] = "auto", device: str = "auto", precision: Precision = "float32"
) -> Runtime:
    """Open the runtime that these settings name.

    Args:
        runtime: `openvino`, `tensorflow`, or `auto` for the rule above.
        device: `cpu`, `gpu`, `gpu:N`, or `auto`: a GPU where the runtime has one.
        precision: `float32`, or `bfloat16` (OpenVINO, on a CPU that has it).

    Raises:
        RuntimeUnavailableError: what is asked for isn't installed, or isn't on this machine.
    """
    chosen = _choose(device, precision) if runtime == "auto" else runtime
    if not installed(chosen):
        raise RuntimeUnavailableError(
            f"runtime {chosen} is not installed"
            + (f", and device {device} needs it" if runtime == "auto" and device.startswith("gpu") else ""),
            expected=f"the package {chosen}",
            remedy=f"install this project's extra '{INSTALL[chosen]}', or change the settings runtime and device",
        )
    if chosen == "openvino":
        if device.startswith("gpu"):
            raise RuntimeUnavailableError(
                f"device {device} with runtime openvino",
                expected="cpu or auto: OpenVINO is this project's CPU runtime, TensorFlow its GPU runtime",
                remedy="set runtime to tensorflow, or device to cpu",
            )
        from runtime.openvino import OpenVinoRuntime

        return OpenVinoRuntime(precision)
    from runtime.tensorflow import TensorFlowRuntime, sees_gpu

    place = ("gpu" if sees_gpu() else "cpu") if device == "auto" else device
    return TensorFlowRuntime(place, precision)


def _choose(device: str, precision: Precision) -> RuntimeName:
    if device.startswith("gpu"):
        return "tensorflow"
    if not installed("openvino"):
        return "tensorflow"
    if device == "auto" and precision == "float32" and installed("tensorflow"):
        from runtime.tensorflow import sees_gpu

        if sees_gpu():
            return "tensorflow"
    return "openvino"
