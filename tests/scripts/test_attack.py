"""The attack on a real server: a small one finds nothing, and only loopback addresses are attacked."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.attack.process import loopback_address
from tests.conftest import ROOT
from tests.e2e.server import clean_environment

ATTEMPTS = 200


def attack(*arguments: str, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.attack", *arguments],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.mark.slow
def test_nothing_unexpected_happens(tmp_path: Path) -> None:
    result = attack("--requests", f"{ATTEMPTS}", "--clients", "32", "--save", str(tmp_path), "--time-limit-s", "200")
    assert result.returncode == 0, result.stdout + result.stderr
    total = next(line for line in result.stdout.splitlines() if line.startswith("all ")).split()
    assert int(total[1].replace(",", "")) >= ATTEMPTS
    assert total[2:6] == ["0", "0", "0", "0"]  # 5xx, other statuses, wrong, lost


@pytest.mark.parametrize("url", ["http://192.0.2.1:8000", "http://example.com", "https://127.0.0.1", "127.0.0.1:8000"])
def test_other_addresses_than_of_loopback_are_not_attacked(url: str) -> None:
    with pytest.raises(ValueError, match=r"loopback|does not appear"):
        loopback_address(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000/"])
def test_addresses_of_loopback_are(url: str) -> None:
    assert loopback_address(url)[1] == 9000
