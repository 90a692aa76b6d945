"""No process of the project contacts anyone by itself: no analytics, no update check, no child process for it."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, SMALL_MODELS
from tests.e2e.server import clean_environment, running_server

pytestmark = pytest.mark.slow
PROBE = Path(__file__).with_name("telemetry_probe.py")
SWITCHES = ("CI", "TF_BUILD", "JENKINS_URL", "DO_NOT_TRACK")
"""Variables with which libraries turn off their own telemetry."""
VERSION = SMALL_MODELS / "sequential/1"


@dataclass(frozen=True)
class Probe:
    """Environment of a process, and the events observed in it."""

    variables: dict[str, str]
    file: Path
    proxy: socket.socket

    def events(self) -> list[str]:
        """Connections, look-ups of names and forks, of all processes."""
        return self.file.read_text().splitlines()

    def was_asked(self) -> bool:
        """Return True if anything connected to the proxy that the variables name."""
        self.proxy.setblocking(False)
        try:
            self.proxy.accept()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Probe]:
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)
    shutil.copy(PROBE, tmp_path / "sitecustomize.py")
    home = tmp_path / "home"  # writable and new: here nobody has opted out
    home.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        variables = {
            "HOME": str(home),
            "PYTHONPATH": str(tmp_path),
            "PROBE_FILE": str(tmp_path / "events"),
            "http_proxy": url,
            "https_proxy": url,
        }
        yield Probe(variables, tmp_path / "events", proxy)
    assert not (home / "intel").exists(), "OpenVINO's telemetry keeps its files there"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_started_service_contacts_nobody_and_forks_nothing(probe: Probe, tmp_path: Path, workers: str) -> None:
    with running_server(tmp_path / "log", CIFAR10_WORKERS=workers, **probe.variables) as server:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        commands = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
        expected = {b"spawn_main": 2, b"resource_tracker": 1} if workers == "2" else {}
        assert len(commands) == sum(expected.values())
        for name, count in expected.items():
            assert sum(name in command for command in commands) == count
        server.process.terminate()
        assert server.process.wait(30) == 0
    assert probe.events() == []
    assert not probe.was_asked()


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "import training.export"],
        ["-m", "training", "list"],
        ["bench/baselines/runtime_alone.py", str(VERSION), "float32", "0.01", "1"],
    ],
    ids=["export", "training", "bench"],
)
def test_training_and_the_benchmark_contact_nobody(probe: Probe, arguments: list[str]) -> None:
    subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=clean_environment() | probe.variables,
        check=True,
        capture_output=True,
        timeout=300,
    )
    assert probe.events() == []
    assert not probe.was_asked()
