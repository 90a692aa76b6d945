"""Runs `python -m training` as users do, in a separate process."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def run(
    *arguments: object, environment: dict[str, str] | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Return the finished process, with its output as text."""
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {})
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=300)


def last_line(text: str) -> str:
    """Return the last line of an output."""
    return text.strip().splitlines()[-1]
