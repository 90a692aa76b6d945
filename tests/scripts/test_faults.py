"""The command that injects faults; `docs/reliability.md` has its output."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.e2e.server import clean_environment


@pytest.mark.slow
def test_the_service_recovers_and_the_table_says_so() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "scripts.faults", "--only", "models_removed"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    rows = result.stdout.splitlines()[2:]
    assert len(rows) == 1
    assert [row for row in rows if "background requests succeeded" not in row or "**not**" in row] == []
