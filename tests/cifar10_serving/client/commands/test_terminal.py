"""Output for terminals only: the progress bar, thumbnails, and the screen of `watch`."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, SAMPLES
from tests.e2e.server import Server, clean_environment

CAT = SAMPLES[3].file


def seen_on_a_terminal(server: Server, *arguments: object, code: int = 0) -> str:
    """Standard output and error of a command as a terminal gets them."""
    environment = clean_environment() | {"CIFAR10_URL": server.url, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    outer, inner = pty.openpty()
    command = [sys.executable, "-m", "cifar10_serving", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=inner, stderr=inner) as running:
        os.close(inner)
        seen = b""
        while True:
            try:
                part = os.read(outer, 65536)
            except OSError:  # Linux says so where the other end is closed
                break
            if not part:
                break
            seen += part
    os.close(outer)
    assert running.returncode == code
    return seen.decode()


def test_long_work_has_a_bar_and_its_rows_stand_above_it(server: Server) -> None:
    seen = seen_on_a_terminal(server, "predict", CAT.parent, "--model", "sequential", "--thumbnail", "off")
    assert "━" in seen
    assert "10/10" in seen
    assert all(f"…{str(sample.file)[-25:]}  " in seen for sample in SAMPLES)


def test_short_work_has_thumbnails_instead(server: Server) -> None:
    seen = seen_on_a_terminal(server, "predict", CAT, "--model", "sequential")
    assert seen.count("▀") == 32 * 16
    assert "━" not in seen


def test_watch_draws_one_screen_over_the_other(server: Server) -> None:
    seen = seen_on_a_terminal(server, "watch", "--count", 2, "--interval", 0.1)
    assert "Ctrl-C to stop" in seen
    assert "ready; " in seen
    assert "\x1b[1A" in seen


@pytest.mark.parametrize("broken", [b"", b"\x89PNG nonsense"])
def test_thumbnail_of_what_can_not_be_read_spoils_nothing(server: Server, tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(broken)
    seen = seen_on_a_terminal(server, "predict", CAT, tmp_path / "broken.png", code=3)
    assert seen.count("▀") == 32 * 16
    assert "error: " in seen
