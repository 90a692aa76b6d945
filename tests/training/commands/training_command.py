"""Runs `python -m training` as a user would, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def run(
    *arguments: object, environment: dict[str, str] | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """The finished process, its output as text."""
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {})
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=300)


def last_line(text: str) -> str:
    """What a user reads last."""
    return text.strip().splitlines()[-1]
