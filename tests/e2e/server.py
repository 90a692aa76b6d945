"""A real server process on a free port, started as users start it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx

from tests.conftest import COMPILED_MODELS, ROOT, SMALL_MODELS

START_TIMEOUT_S = 180
"""Far more than a start takes, for a machine with much other work."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    url: str
    log: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """Return the environment without the developer's own settings and compiled models.

    Answers are compared with golden ones, so the server computes in float32; what `auto` chooses depends on the CPU.
    """
    foreign = {name: value for name, value in os.environ.items() if not name.startswith("CIFAR10_")}
    return foreign | {"CIFAR10_COMPILED_MODELS": str(COMPILED_MODELS), "CIFAR10_PRECISION": "float32"}


@contextmanager
def running_server(log: Path, **settings: str) -> Iterator[Server]:
    """Start `python -m service` with these settings as variables, wait until it is ready, and kill it at the end."""
    port = free_port()
    variables = {"CIFAR10_PORT": str(port), "CIFAR10_MODELS": str(SMALL_MODELS)} | settings
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"], cwd=ROOT, env=clean_environment() | variables, stderr=stream, text=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, process, log)
        yield Server(process, url, log)
    finally:
        process.kill()
        process.wait()


def wait_until_ready(url: str, process: subprocess.Popen[str] | None = None, log: Path | None = None) -> None:
    """Poll /readyz until it answers 200."""
    wait_for_200(f"{url}/readyz", process, log)


def wait_for_200(url: str, process: subprocess.Popen[str] | None = None, log: Path | None = None) -> None:
    """Poll an address until it answers 200."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    with httpx.Client() as client:
        while time.monotonic() < deadline_s:
            if process is not None and process.poll() is not None:
                raise AssertionError(f"the server ended with {process.returncode}: {log.read_text() if log else ''}")
            try:
                if client.get(url).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
    raise AssertionError(f"not ready within {START_TIMEOUT_S} s: {log.read_text() if log else url}")
