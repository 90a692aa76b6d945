import pytest

from cifar10_serving.errors import RuntimeUnavailableError
from cifar10_serving.runtimes import selection
from cifar10_serving.runtimes.selection import open_runtime


def test_auto_on_a_machine_without_gpu_is_openvino_on_the_cpu() -> None:
    runtime = open_runtime()
    assert (runtime.name, runtime.device, runtime.precision) == ("openvino", "cpu", "float32")


def test_tensorflow_can_be_asked_for() -> None:
    assert open_runtime("tensorflow", "cpu").name == "tensorflow"


def test_gpu_without_one_names_what_tensorflow_sees() -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"device gpu was requested, but TensorFlow .* sees CPU:0"):
        open_runtime("auto", "gpu")


def test_gpu_where_tensorflow_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "installed", lambda name: name == "openvino")
    with pytest.raises(RuntimeUnavailableError, match="tensorflow is not installed, and device gpu needs it"):
        open_runtime("auto", "gpu")


def test_without_openvino_auto_is_tensorflow_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "installed", lambda name: name == "tensorflow")
    runtime = open_runtime()
    assert (runtime.name, runtime.device) == ("tensorflow", "cpu")


def test_openvino_takes_no_gpu() -> None:
    with pytest.raises(RuntimeUnavailableError, match="device gpu:1 with runtime openvino"):
        open_runtime("openvino", "gpu:1")
