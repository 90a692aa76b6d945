from pathlib import Path

import pytest

from service.errors import SettingsError
from service.settings import Settings, flag, legal_values, read_settings, variable


def test_defaults_are_the_documented_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)
    settings = read_settings()
    assert (settings.host, settings.port, settings.runtime) == ("127.0.0.1", 8000, "auto")


def test_flag_wins_over_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_PORT", "9000")
    assert read_settings().port == 9000
    assert read_settings(["--port", "9001"]).port == 9001


@pytest.mark.parametrize(
    ("name", "value", "legal"),
    [
        ("CIFAR10_PORT", "99999", "whole number from 1 to 65,535"),
        ("CIFAR10_PORT", "http", "whole number from 1 to 65,535"),
        ("CIFAR10_RUNTIME", "onnx", "auto, openvino, tensorflow"),
        ("CIFAR10_DEVICE", "cuda", "auto, cpu, gpu, gpu:N"),
        ("CIFAR10_PRECISION", "int8", "float32, bfloat16"),
        ("CIFAR10_DEFAULT_MODEL", "alexnet", "auto, sequential, functional, subclassing"),
        ("CIFAR10_VERSION_POLICY", "latest", "latest(N), all"),
        ("CIFAR10_POLL_INTERVAL_S", "-1", "number from 0 to 3,600"),
        ("CIFAR10_REQUEST_TIMEOUT_S", "0", "number above 0, up to 3,600"),
    ],
)
def test_bad_variable_is_named_with_its_value_and_what_is_legal(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, legal: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert f"{name} = '{value}' is not legal; expected: {legal}" in str(caught.value)


def test_bad_flag_is_named_as_the_flag() -> None:
    with pytest.raises(SettingsError, match=r"--max-body-bytes = '5' is not legal; expected: whole number from 1,024"):
        read_settings(["--max-body-bytes", "5"])


@pytest.mark.parametrize(
    ("value", "home", "folder"),
    [
        ("/var/cache/x", "/home/a", "/var/cache/x"),
        ("~/.cache/cifar10-serving", "/home/a", "/home/a/.cache/cifar10-serving"),
        ("off", "/home/a", None),
    ],
)
def test_folder_of_compiled_models_is_a_path_or_off(
    monkeypatch: pytest.MonkeyPatch, value: str, home: str, folder: str | None
) -> None:
    monkeypatch.setenv("HOME", home)
    found = read_settings(["--compiled-models", value]).compiled_models_folder
    assert found == (Path(folder) if folder else None)


def test_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_ADMIN_TOKEN", "too short")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert "CIFAR10_ADMIN_TOKEN = (a secret) is not legal; expected: text of at least 16 characters" in str(
        caught.value
    )
    monkeypatch.setenv("CIFAR10_ADMIN_TOKEN", "long enough to be legal")
    assert "long enough" not in repr(read_settings())
    assert read_settings(["--admin-token", "another that is legal"]).admin_token is not None


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_says_what_it_is_and_what_is_legal(name: str) -> None:
    assert Settings.model_fields[name].description
    assert legal_values(name)
    assert variable(name).startswith("CIFAR10_")
    assert flag(name).startswith("--")
