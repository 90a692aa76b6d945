"""Start, await, measure and stop the process tree of one server.

`bench.servers` defines the commands and parses the answers.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.errors import BenchError

READY_TIMEOUT_S: Final = 180
POLL_S: Final = 0.02
PROBE_TIMEOUT_S: Final = 15
STOP_TIMEOUT_S: Final = 15
LOG_TAIL: Final = 600
PROC: Final = Path("/proc")


@dataclass(frozen=True)
class Running:
    """A server that became ready after `ready_s`."""

    process: subprocess.Popen[bytes]
    port: int
    ready_s: float
    log: Path

    @property
    def rss_bytes(self) -> int:
        """Resident memory of the process and all its descendants; shared pages count several times."""
        return sum(_rss_bytes(pid) for pid in process_tree(self.process.pid))


def free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str],
    *,
    port: int,
    ready_path: str,
    ready_processes: int,
    variables: Mapping[str, str],
    folder: Path,
    log: Path,
) -> Iterator[Running]:
    """Start a server, wait until it is ready, and stop it with all its processes at the end.

    Args:
        command: starts the server.
        port: its port on 127.0.0.1.
        ready_path: answers 200 once the server is ready.
        ready_processes: if more than one, this many processes must be ready, each with its own "pid" in a JSON answer.
        variables: environment variables in addition to this process' own.
        folder: the working directory.
        log: receives the server's output.

    Raises:
        BenchError: it exited, or was not ready in time; the message has the end of its log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CIFAR10_")}
    start_s = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=environment | dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, port, ready_path, ready_processes, log)
        yield Running(process, port, time.monotonic() - start_s, log)
    finally:
        _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, path: str, ready_processes: int, log: Path) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    ready: set[int] = set()
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise BenchError(f"it exited with {process.returncode} before it was ready: {tail(log)}")
        with suppress(OSError, http.client.HTTPException):
            status, body = get(port, path)
            if status == http.HTTPStatus.OK:
                ready.add(json.loads(body)["pid"] if ready_processes > 1 else 0)
                if len(ready) == ready_processes:
                    return
        time.sleep(POLL_S)
    raise BenchError(f"it was not ready after {READY_TIMEOUT_S} s: {tail(log)}")


def get(port: int, path: str) -> tuple[int, bytes]:
    """Send a GET over a new connection; return status and body."""
    return _request(port, "GET", path)


def post(port: int, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Send a POST over a new connection; return status and body."""
    return _request(port, "POST", path, body, headers)


def _request(
    port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def tail(log: Path) -> str:
    """Return the end of a log as one line."""
    return " ".join(log.read_text(errors="replace").split())[-LOG_TAIL:]


def process_tree(pid: int) -> list[int]:
    """List a process and its descendants."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for children in (PROC / str(parent) / "task").glob("*/children"):
                with suppress(OSError):  # a thread that has just exited; others may have children, too
                    found += [int(child) for child in children.read_text().split()]
    return found


def _rss_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to the server, then SIGKILL to the rest of its session."""
    descendants = process_tree(process.pid)
    with suppress(ProcessLookupError):
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in descendants[1:]:
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == process.pid:
                os.kill(pid, signal.SIGKILL)
    process.wait()
