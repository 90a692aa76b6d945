import logging
import os
import re
import subprocess
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.settings import (
    DEPRECATED_NAMES,
    PREFIX,
    PREFIXES_ELSEWHERE,
    READ_ELSEWHERE,
    Settings,
    flag,
    is_of_kubernetes,
    label_set,
    legal_values,
    read_settings,
    variable,
    warn_of_names,
)
from tests.conftest import ROOT
from training.cifar10 import CLASS_NAMES

SECRET = "a-secret-that-nobody-may-see"  # noqa: S105


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)
    return monkeypatch


def test_defaults_are_the_documented_ones(bare_environment: pytest.MonkeyPatch) -> None:
    settings = read_settings()
    assert (settings.host, settings.port, settings.runtime) == ("127.0.0.1", 8000, "auto")


def test_default_labels_are_those_of_cifar10() -> None:
    assert label_set(read_settings().default_labels) == set(CLASS_NAMES)
    assert label_set(read_settings(["--default-labels", " oak, weeping willow,ash,"]).default_labels) == {
        "oak",
        "weeping willow",
        "ash",
    }


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
        ("CIFAR10_PRECISION", "int4", "float32, bfloat16, int8"),
        ("CIFAR10_DEFAULT_MODEL", "models/vgg16", "auto, or a published model's name"),
        ("CIFAR10_DEFAULT_LABELS", "cat, ,", "comma-separated labels, at least two"),
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


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("CIFAR10_PORT", " 9000\n", 9000),
        ("CIFAR10_PORT", "", 8000),
        ("CIFAR10_PORT", "  ", 8000),
        ("cifar10_port", "9000", 9000),
        ("CIFAR10_LOG_LEVEL", "INFO", "info"),
        ("CIFAR10_RUNTIME", " OpenVINO ", "openvino"),
        ("CIFAR10_DEVICE", "CPU", "cpu"),
        ("CIFAR10_HOST", "", "127.0.0.1"),
        ("CIFAR10_ADMIN_TOKEN", "", None),
        ("CIFAR10_LAME_DUCK_S", "0.5", 0.5),
    ],
)
def test_variable_means_what_people_mean(
    bare_environment: pytest.MonkeyPatch, name: str, value: str, meant: object
) -> None:
    bare_environment.setenv(name, value)
    assert getattr(read_settings(), name.upper().removeprefix(PREFIX).lower()) == meant


def test_token_of_a_file_may_end_with_a_line_end(bare_environment: pytest.MonkeyPatch) -> None:
    bare_environment.setenv("CIFAR10_ADMIN_TOKEN", f"{SECRET}\n")
    token = read_settings().admin_token
    assert token is not None
    assert token.get_secret_value() == SECRET


def kubernetes_variables(service: str) -> dict[str, str]:
    """Return the variables that the kubelet sets in each pod for a Service with a port named http."""
    prefix = service.upper().replace("-", "_")
    return {
        f"{prefix}_SERVICE_HOST": "10.0.0.11",
        f"{prefix}_SERVICE_PORT": "8000",
        f"{prefix}_SERVICE_PORT_HTTP": "8000",
        f"{prefix}_PORT": "tcp://10.0.0.11:8000",
        f"{prefix}_PORT_8000_TCP": "tcp://10.0.0.11:8000",
        f"{prefix}_PORT_8000_TCP_PROTO": "tcp",
        f"{prefix}_PORT_8000_TCP_PORT": "8000",
        f"{prefix}_PORT_8000_TCP_ADDR": "10.0.0.11",
    }


@pytest.mark.parametrize("service", ["cifar10", "cifar10-serving", "cifar10-grpc", "cifar10-gpu"])
def test_variables_of_a_kubernetes_service_are_passed_over_with_one_line(
    bare_environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, service: str
) -> None:
    for name, value in kubernetes_variables(service).items():
        bare_environment.setenv(name, value)
    settings = read_settings()
    assert (settings.port, settings.grpc_port) == (8000, 0)
    with caplog.at_level(logging.INFO):
        warn_of_names()
    (only,) = caplog.records
    assert only.levelno == logging.INFO
    assert "Kubernetes" in only.message
    assert all(name in only.message for name in kubernetes_variables(service))
    assert read_settings(["--port", "9000", "--grpc-port", "9001"]).port == 9000


def test_ports_that_people_set_are_none_of_kubernetes() -> None:
    for value in ("9000", "tcp", "http://x:1", "127.0.0.1:9000", ""):
        assert not is_of_kubernetes("CIFAR10_PORT", value)


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("CIFAR10_ADMIN_TOKN", "CIFAR10_ADMIN_TOKEN"),
        ("CIFAR10_WORKER", "CIFAR10_WORKERS"),
        ("CIFAR10_MAX_BODY_BYTE", "CIFAR10_MAX_BODY_BYTES"),
        ("cifar10_wokers", "CIFAR10_WORKERS"),
        ("CIFAR10_SOMETHING_ELSE", None),
        ("CIFAR10_FOO", None),
    ],
)
def test_misspelt_variable_brings_a_warning_with_the_close_match_and_without_its_value(
    bare_environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, guess: str | None
) -> None:
    bare_environment.setenv(name, SECRET)
    warn_of_names()
    (only,) = caplog.records
    assert only.levelno == logging.WARNING
    assert only.message.startswith(f"{name} is not a setting")
    assert (f"did you mean '{guess}'" in only.message) == (guess is not None)
    assert ("did you mean" in only.message) == (guess is not None)
    assert SECRET not in only.message


def test_variables_of_other_parts_bring_no_warning(
    bare_environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (*READ_ELSEWHERE, *(f"{prefix}X" for prefix in PREFIXES_ELSEWHERE), "CIFAR10_LOG_LEVEL"):
        bare_environment.setenv(name, "x")
    warn_of_names()
    assert caplog.records == []


def test_every_variable_that_the_project_reads_is_known() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    wanted = (".py", ".yml", "Makefile", "Dockerfile", "check", "install", "run")
    names = {
        name
        for file in files
        if file.endswith(wanted) and not file.startswith("tests/")
        for name in re.findall(r"\bCIFAR10_[A-Z][A-Z_]*[A-Z]\b", (ROOT / file).read_text(encoding="utf-8"))
    }
    known = {variable(name) for name in (*Settings.model_fields, *DEPRECATED_NAMES)} | READ_ELSEWHERE
    unknown = {name for name in names - known if not name.startswith(PREFIXES_ELSEWHERE)}
    assert not unknown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prot", "80"], "there is no flag '--prot' (did you mean '--port'?)"),
        (["--admin-tokn", SECRET], "there is no flag '--admin-tokn' (did you mean '--admin-token'?)"),
        ([f"--admin-tokn={SECRET}"], "there is no flag '--admin-tokn' (did you mean '--admin-token'?)"),
        (["--max", "5"], "there is no flag '--max'"),
        (["--admin-token=", SECRET], "there is a value without a flag"),
        (["--admin-token", f"--{SECRET}"], "argument --admin-token: expected one argument"),
        ([SECRET], "there is a value without a flag"),
        ([f"-{SECRET}"], "there is a value without a flag"),
        (["--port"], "argument --port: expected one argument"),
        (["--pörtà\n\x1b[31m", "1"], "there is no flag '--pörtà"),
    ],
)
def test_wrong_command_line_is_told_in_one_line_that_shows_no_value(arguments: list[str], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(arguments)
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("by_flag", [True, False])
def test_no_error_shows_a_secret_or_a_raw_line_end(bare_environment: pytest.MonkeyPatch, by_flag: bool) -> None:
    given = {"admin_token": "too\nshort", "log_level": "loud\n\x1b[31m", "port": "x\ny"}
    if not by_flag:
        for name, value in given.items():
            bare_environment.setenv(variable(name), value)
    arguments = [part for name, value in given.items() for part in (flag(name), value)] if by_flag else []
    with pytest.raises(SettingsError) as caught:
        read_settings(arguments)
    message = str(caught.value)
    assert "too" not in message
    assert message.isprintable()
    for name in given:
        assert (flag(name) if by_flag else variable(name)) in message


RENAMED = pytest.mark.parametrize(
    ("old", "new", "value"),
    [(old, new, 0 if Settings.model_fields[new].default == 1 else 1) for old, new in DEPRECATED_NAMES.items()],
)


@RENAMED
def test_deprecated_variable_works_and_brings_one_warning_that_names_the_new_one(
    bare_environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, old: str, new: str, value: int
) -> None:
    assert getattr(read_settings(), new) != value
    bare_environment.setenv(variable(old), f" {value} ")
    assert getattr(read_settings(), new) == value
    warn_of_names()
    (only,) = caplog.records
    assert only.levelno == logging.WARNING
    assert only.message.startswith(f"{variable(old)} is deprecated")
    assert only.message.endswith(f"use {variable(new)} instead")


@RENAMED
def test_deprecated_flag_works_and_brings_one_warning_that_names_the_new_one(
    bare_environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, old: str, new: str, value: int
) -> None:
    assert getattr(read_settings([f"{flag(old)}={value}"]), new) == value
    arguments = [flag(old), str(value)]
    assert getattr(read_settings(arguments), new) == value
    warn_of_names(arguments)
    (only,) = caplog.records
    assert only.message.startswith(f"{flag(old)} is deprecated")
    assert only.message.endswith(f"use {flag(new)} instead")


@pytest.mark.parametrize("names", [("max_batch_rows", "max_batch_size"), ("max_batch_size", "max_batch_rows")])
def test_flag_overrides_a_variable_under_either_name(
    bare_environment: pytest.MonkeyPatch, names: tuple[str, str]
) -> None:
    by_flag, by_variable = names
    bare_environment.setenv(variable(by_variable), "5")
    assert read_settings([flag(by_flag), "3"]).max_batch_size == 3
    assert read_settings([flag(by_variable), "3"]).max_batch_size == 3


@pytest.mark.parametrize("by_flag", [True, False])
def test_different_values_under_both_names_are_an_error_that_names_both(
    bare_environment: pytest.MonkeyPatch, by_flag: bool
) -> None:
    spelt = flag if by_flag else variable
    old, new = spelt("shutdown_grace_s"), spelt("graceful_shutdown_timeout_s")

    def read(old_value: str, new_value: str) -> Settings:
        if by_flag:
            return read_settings([old, old_value, f"{new}={new_value}"])
        bare_environment.setenv(old, old_value)
        bare_environment.setenv(new, new_value)
        return read_settings()

    assert read("7", "7").graceful_shutdown_timeout_s == 7
    with pytest.raises(SettingsError) as caught:
        read("7", "8")
    assert f"{old} = '7' and {new} = '8' are the same setting" in str(caught.value)
    assert f"remove {old}" in str(caught.value)


def test_illegal_value_is_named_by_the_deprecated_name_under_which_it_was_given(
    bare_environment: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(SettingsError, match=r"--max-queue-rows = 'x' is not legal; expected: whole number from 1"):
        read_settings(["--max-queue-rows", "x"])
    bare_environment.setenv("CIFAR10_MAX_QUEUE_ROWS", "x")
    with pytest.raises(SettingsError, match=r"CIFAR10_MAX_QUEUE_ROWS = 'x' is not legal"):
        read_settings()


def test_misspelt_deprecated_name_brings_the_new_one_to_mind(
    bare_environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bare_environment.setenv("CIFAR10_SHUTDOWN_GRACE", "1")
    warn_of_names()
    (only,) = caplog.records
    assert "(did you mean 'CIFAR10_GRACEFUL_SHUTDOWN_TIMEOUT_S'?)" in only.message
    with pytest.raises(SettingsError, match=r"\(did you mean '--graceful-shutdown-timeout-s'\?\)"):
        read_settings(["--shutdown-grace", "1"])


def test_models_may_be_a_folder_or_a_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CIFAR10_MODELS", str(tmp_path))
    settings = read_settings()
    assert settings.models_address is None
    assert settings.models_folder == tmp_path
    monkeypatch.setenv("CIFAR10_MODELS", "s3://bucket/models/")
    monkeypatch.setenv("CIFAR10_MODELS_MIRROR_FOLDER", str(tmp_path))
    settings = read_settings()
    assert str(settings.models_address) == "s3://bucket/models"
    assert settings.models_folder.parent == tmp_path
    others = [["--models", "s3://bucket/other"], ["--models-mirror-versions", "2"], ["--version-policy", "all"]]
    folders = {settings.models_folder, *(read_settings(other).models_folder for other in others)}
    assert len(folders) == 4


@pytest.mark.parametrize("models", ["s3://me:hush@bucket/models", "https://host/models.zip?sig=hush", "ftp://host/x"])
def test_address_that_is_not_legal_shows_no_secret(models: str) -> None:
    with pytest.raises(
        SettingsError, match=r"--models = .* is not legal; expected: path of a folder, s3://BUCKET"
    ) as raised:
        read_settings(["--models", models])
    assert "hush" not in str(raised.value)


def test_mirror_needs_a_home_folder_or_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(_: Path) -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(SettingsError, match=r"CIFAR10_MODELS_MIRROR_FOLDER.*no home folder"):
        _ = read_settings(["--models", "s3://bucket/models"]).models_folder
