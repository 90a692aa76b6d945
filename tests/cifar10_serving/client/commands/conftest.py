"""The command line in this process, against the real server."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from cifar10_serving.__main__ import main
from tests.e2e.server import Server


@dataclass(frozen=True)
class Ended:
    """The output and exit code of a command."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command; without --url it uses the real server."""
    monkeypatch.setenv("CIFAR10_URL", server.url)

    def command(*arguments: object) -> Ended:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(str(ended.code))
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return Ended(code, shown.out, shown.err)

    return command
