"""Runs `python -m training` in this process, which has the frameworks already."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from training import __main__ as command_line


@dataclass(frozen=True)
class Finished:
    """The exit code and the output of a command."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: object, stdout: io.TextIOBase | None = None) -> Finished:
    """Run a command as the shell would.

    Args:
        stdout: what it prints to; None for a text of which the result tells.
    """
    output, errors = stdout or io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as changed, redirect_stdout(output), redirect_stderr(errors):
        changed.setattr(sys, "argv", ["training", *map(str, arguments)])
        try:
            code = command_line.main()
        except SystemExit as ended:
            code = int(str(ended.code))
    return Finished(code, output.getvalue() if isinstance(output, io.StringIO) else "", errors.getvalue())


def last_line(text: str) -> str:
    """Return the last line of an output."""
    return text.strip().splitlines()[-1]
