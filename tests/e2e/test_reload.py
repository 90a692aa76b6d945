"""Versions are published, withdrawn and damaged while a real server gets requests; no request fails."""

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import httpx2 as httpx
import pytest

from cifar10_serving.schemas import ModelStatus
from tests.conftest import ROOT, SAMPLES
from tests.e2e.server import Server, clean_environment, free_port, running_server, wait_until_ready
from tests.version_copies import publish_copy, withdraw, write_rollout
from tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.slow


@contextmanager
def steady_requests(server: Server) -> Iterator[list[int]]:
    """Ask all the while; the versions that answered. Each request must get its 200."""
    versions: list[int] = []
    failures: list[str] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client() as client:
            while not over.is_set():
                response = client.post(f"{server.url}/predict", files={"file": SAMPLES[3].file.read_bytes()})
                if response.status_code == 200:
                    versions.append(response.json()["version"])
                else:
                    failures.append(response.text)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield versions
    over.set()
    for thread in threads:
        thread.join()
    assert failures == []


def model(server: Server) -> ModelStatus:
    return ModelStatus.model_validate_json(httpx.get(f"{server.url}/models/sequential").content)


def wait_for_version(versions: list[int], version: int) -> None:
    """Until three answers in a row are of this version."""
    wait_until(lambda: versions[-3:] == [version] * 3, look_every_s=0.02)


def test_versions_come_and_go_and_break_and_no_request_fails(one_model: Path, tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "log", CIFAR10_MODELS=str(one_model), CIFAR10_POLL_INTERVAL_S="0.05") as server,
        steady_requests(server) as versions,
    ):
        wait_for_version(versions, 1)
        publish_copy(one_model, 2)
        wait_for_version(versions, 2)
        publish_copy(one_model, 3, broken=True)
        wait_until(lambda: model(server).versions[0].reason)
        newest = model(server).versions[0]
        assert newest.reason is not None
        assert "saved_model.pb is not what was published" in newest.reason
        withdraw(one_model, 2)
        wait_for_version(versions, 1)
        write_rollout(one_model, policy="all", labels={"stable": 1, "canary": 4})
        publish_copy(one_model, 4)

        def serves_the_fourth() -> bool:
            status = model(server)
            return 4 in status.labels.values() and not status.problem

        wait_until(serves_the_fourth)
        write_rollout(one_model, policy="all", split={"1": 50, "4": 50})
        wait_for_version(versions, 4)
        wait_for_version(versions, 1)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_sighup_makes_it_scan_at_once(one_model: Path, tmp_path: Path) -> None:
    settings = {"CIFAR10_MODELS": str(one_model), "CIFAR10_POLL_INTERVAL_S": "0"}
    with running_server(tmp_path / "log", **settings) as server, steady_requests(server) as versions:
        publish_copy(one_model, 2)
        os.kill(server.process.pid, signal.SIGHUP)
        wait_for_version(versions, 2)


def test_sighup_of_its_terminal_stops_it(one_model: Path, tmp_path: Path) -> None:
    port = free_port()
    operator, terminal = pty.openpty()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "--port", str(port), "--models", str(one_model)],
            cwd=ROOT,
            env=clean_environment(),
            stdin=terminal,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    os.close(terminal)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process, tmp_path / "log")
        os.close(operator)
        os.kill(process.pid, signal.SIGHUP)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
    assert "the terminal was closed" in (tmp_path / "log").read_text()


def serves(server: Server, version: int) -> bool:
    return model(server).serving_version == version


def test_files_that_never_answer_hold_up_neither_reload_nor_stop(one_model: Path, tmp_path: Path) -> None:
    settings = {"CIFAR10_MODELS": str(one_model), "CIFAR10_POLL_INTERVAL_S": "0.1"}
    with running_server(tmp_path / "log", **settings, CIFAR10_GRACEFUL_SHUTDOWN_TIMEOUT_S="2") as server:
        os.mkfifo(one_model / "sequential/serving.json")
        names = ["golden.npz", "metadata.json", "saved_model.pb", "variables/variables.index"]
        for version, name in zip(count(2, 2), names, strict=False):
            odd = publish_copy(one_model, version)
            (odd / name).unlink()
            os.mkfifo(odd / name)
            publish_copy(one_model, version + 1)
            wait_until(partial(serves, server, version + 1), look_every_s=0.05)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
