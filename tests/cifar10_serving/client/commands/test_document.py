"""docs/client.md shows commands that work, and lists every error and every exit code."""

import re
import shlex
from io import BytesIO, TextIOWrapper

import pytest

from cifar10_serving import client
from cifar10_serving.client import ClientError
from cifar10_serving.client.commands.exit_codes import ExitCode
from tests.cifar10_serving.client.commands.conftest import Run
from tests.conftest import ROOT

DOCUMENT = (ROOT / "docs/client.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^cifar10 (.*?)(?:  +#.*)?$", DOCUMENT, re.MULTILINE)
NEEDS_MORE = ("holiday.jpg", "my-test-set", "bench", "watch")
"""Files of the reader's own, and commands that take their time."""


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if not any(word in command for word in NEEDS_MORE)]
)
def test_command_in_the_document_works(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(ROOT)
    words, _, standard_input = command.partition(" > ")[0].partition(" < ")
    if standard_input:
        monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO((ROOT / standard_input).read_bytes())))
    ended = run(*shlex.split(words))
    assert ended.code == ExitCode.DONE
    assert ended.err == "" or ended.err.startswith("skipped 1 file: ")  # the README of the images
    assert ended.out


def test_most_commands_of_the_document_are_run_here() -> None:
    assert len(COMMANDS) >= 15
    assert {command.split()[0] for command in COMMANDS} == {
        *("predict", "compare", "explain", "models", "model", "watch", "bench", "wait-ready")
    }


def test_document_names_every_error_and_every_exit_code() -> None:
    errors = [
        name
        for name in client.__all__
        if isinstance(found := getattr(client, name), type) and issubclass(found, ClientError)
    ]
    assert [name for name in errors if f"`{name}`" not in DOCUMENT] == []
    rows = [int(code) for code in re.findall(r"^\| (\d+) \|", DOCUMENT, re.MULTILINE)]
    assert rows == [code.value for code in ExitCode]
