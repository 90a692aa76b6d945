import subprocess
import sys
from pathlib import Path

import pytest

from cluster.__main__ import main
from cluster.node import ENVIRONMENT, node_environment, read_environment, wrap_haproxy
from service.settings import Settings, warn_of_names
from tests.conftest import ROOT


def test_environment_file_has_variables_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "ray.env"
    file.write_text("# a comment\n\nFIRST=1\nRETRY_ON=conn-failure empty-response\nEMPTY=\nEQUAL=a=b\n")
    found = read_environment(file)
    assert found == {"FIRST": "1", "RETRY_ON": "conn-failure empty-response", "EMPTY": "", "EQUAL": "a=b"}


def test_own_environment_file_names_settings_that_exist(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in read_environment(ENVIRONMENT).items():
        if name.startswith("CIFAR10_"):
            monkeypatch.setenv(name, value)
    assert Settings().keep_alive_timeout_s == 75
    warn_of_names()
    assert not caplog.records


def test_variables_of_the_caller_come_first(tmp_path: Path) -> None:
    given = {"RAY_SERVE_ENABLE_HA_PROXY": "0", "PYTHONPATH": "/mine", "HOME": "/home/me"}
    found = node_environment(given, {"RAY_SERVE_ENABLE_HA_PROXY": "1", "CIFAR10_HOST": "::"}, tmp_path)
    assert (found["RAY_SERVE_ENABLE_HA_PROXY"], found["CIFAR10_HOST"]) == ("0", "::")
    assert found["PYTHONPATH"] == f"{ROOT}:/mine"
    assert found["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"] == str(tmp_path / "haproxy.cfg")


@pytest.mark.parametrize(
    ("given", "models"),
    [
        ({}, str(ROOT / "models")),
        ({"CIFAR10_MODELS": "s3://bucket/m"}, "s3://bucket/m"),
        ({"CIFAR10_MODELS": "/m"}, "/m"),
    ],
)
def test_models_are_found_from_any_folder(tmp_path: Path, given: dict[str, str], models: str) -> None:
    assert node_environment(given, {}, tmp_path)["CIFAR10_MODELS"] == models


def test_haproxy_gets_a_changed_configuration(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text("defaults\n    option redispatch 1\n    retry-on conn-failure\n    errorfile 503 /tmp/500.http\n")
    script = wrap_haproxy("/bin/echo", tmp_path)
    for _ in range(2):  # a start, and a reload of the same configuration
        shown = subprocess.run([script, "-db", "-f", config], capture_output=True, text=True, check=True).stdout
        assert shown == f"-db -f {config}\n"
    expected = "defaults\n    option redispatch 1\n    option http-buffer-request\n    retry-on conn-failure\n"
    assert config.read_text() == expected


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert {"start", "join", "deploy"} <= {line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]}


def test_unknown_command_names_a_close_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["strat"]) == 2
    assert "there is no command 'strat' (did you mean 'start'?)" in capsys.readouterr().err


def test_missing_environment_file_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cluster", "start", "--environment", str(tmp_path / "none.env")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, "none.env" in result.stderr) == (2, True)
