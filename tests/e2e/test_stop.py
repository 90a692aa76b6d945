"""Signals to a running service: no request is lost, and a shutdown takes no longer than the grace period."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx2 as httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.conftest import MODELS, ROOT, SAMPLES
from tests.e2e.server import Server, clean_environment, free_port, running_server
from tests.e2e.test_workers import eventually, workers

pytestmark = pytest.mark.slow
IMAGE = SAMPLES[3].file.read_bytes()
CONNECTIONS = 40
STOPPED_WITHIN_S = 60
"""Far more than any of these stops may take by its settings, for a busy machine."""


def request(body: bytes = IMAGE) -> bytes:
    return (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )


def connect(server: Server) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((str(address.hostname), address.port or 80), timeout=20)


def answer(connection: socket.socket) -> tuple[int, bool]:
    """The status of the next answer, and whether it says that the connection closes."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        assert part, f"closed after {received!r}"
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = [line.lower() for line in head.split(b"\r\n")]
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1]), b"connection: close" in lines


@contextmanager
def suspended(*pids: int) -> Iterator[None]:
    """Processes that do nothing meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def serving_processes(server: Server, count: str) -> list[int]:
    if count == "1":
        return [server.process.pid]
    eventually(lambda: server.log.read_text().count("ready; the default model is") == int(count))  # each has its own
    return [*workers(server), server.process.pid]


@pytest.mark.parametrize("count", ["1", "2"])
def test_requests_that_a_stop_finds_are_all_answered(tmp_path: Path, one_model: Path, count: str) -> None:
    settings = {"CIFAR10_WORKERS": count, "CIFAR10_MODELS": str(one_model), "CIFAR10_KEEP_ALIVE_TIMEOUT_S": "60"}
    with running_server(tmp_path / "log", **settings) as server, ExitStack() as opened:
        kept = [opened.enter_context(connect(server)) for _ in range(CONNECTIONS)]
        pipelined = opened.enter_context(connect(server))
        for connection in kept:
            connection.sendall(request())
        assert [answer(connection) for connection in kept] == [(200, False)] * CONNECTIONS
        with suspended(*serving_processes(server, count)):
            in_the_kernel = [opened.enter_context(connect(server)) for _ in range(CONNECTIONS)]
            for connection in in_the_kernel:
                connection.sendall(request())
            pipelined.sendall(request() * 3)
            server.process.send_signal(signal.SIGTERM)
            for connection in kept:
                connection.sendall(request())
        assert [answer(connection)[0] for connection in in_the_kernel] == [200] * CONNECTIONS
        answers = [answer(connection) for connection in kept]
        assert [status for status, _ in answers] == [200] * CONNECTIONS
        received = b""
        while part := pipelined.recv(65536):
            received += part
        assert received.count(b"HTTP/1.1 200 ") == 3
        if count == "1":  # a worker may answer before its supervisor passes the signal on
            assert all(closes for _, closes in answers)
            assert received.lower().count(b"connection: close") == 1
        assert server.process.wait(STOPPED_WITHIN_S) == 0


def test_lame_duck_is_not_ready_and_answers(tmp_path: Path) -> None:
    port = free_port()
    with running_server(tmp_path / "log", CIFAR10_LAME_DUCK_S="600", CIFAR10_GRPC_PORT=str(port)) as server:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            states = health_pb2.HealthCheckResponse
            eventually(lambda: health.Check(health_pb2.HealthCheckRequest()).status == states.SERVING)
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
            assert httpx.get(f"{server.url}/readyz").json()["reason"] == "the service is stopping"
            assert httpx.get(f"{server.url}/v2/health/ready").status_code == 503
            assert httpx.get(f"{server.url}/livez").status_code == 200
            eventually(lambda: health.Check(health_pb2.HealthCheckRequest()).status == states.NOT_SERVING)
        response = httpx.post(f"{server.url}/predict", content=IMAGE, headers={"Content-Type": "image/png"})
        assert (response.status_code, response.headers["connection"]) == (200, "close")
        time.sleep(1)  # a second signal so soon would be taken for the first one
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(STOPPED_WITHIN_S) == 0


@pytest.mark.parametrize("count", ["1", "2"])
@pytest.mark.parametrize("after_s", [0.4, 1.5])
def test_stop_while_it_starts_is_prompt(tmp_path: Path, count: str, after_s: float) -> None:
    variables = {"CIFAR10_PORT": str(free_port()), "CIFAR10_MODELS": str(MODELS), "CIFAR10_WORKERS": count}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"], cwd=ROOT, env=clean_environment() | variables, stderr=log
        )
        time.sleep(after_s)
        process.send_signal(signal.SIGTERM)
        code = process.wait(STOPPED_WITHIN_S)
    log_text = (tmp_path / "log").read_text()
    assert code == 0 or (code == -signal.SIGTERM and not log_text)  # on a busy machine Python itself may not be up yet
    assert "Traceback" not in log_text


@pytest.mark.parametrize("count", ["1", "2"])
def test_other_signals_do_not_disturb_a_stop(tmp_path: Path, one_model: Path, count: str) -> None:
    with running_server(tmp_path / "log", CIFAR10_WORKERS=count, CIFAR10_MODELS=str(one_model)) as server:
        serving_processes(server, count)
        server.process.send_signal(signal.SIGTERM)
        while server.process.poll() is None:
            server.process.send_signal(signal.SIGHUP)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.005)
        assert server.process.returncode == 0
    assert "Traceback" not in server.log.read_text()


def test_stop_waits_for_no_file_that_never_answers(tmp_path: Path, one_model: Path) -> None:
    # A thread that hangs for good, whatever the file checks of a version are: here it is nobody's that can be asked.
    hanging = "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()\n"
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(hanging)
    settings = {"CIFAR10_MODELS": str(one_model), "CIFAR10_GRACEFUL_SHUTDOWN_TIMEOUT_S": "1", "PYTHONPATH": str(folder)}
    with running_server(tmp_path / "log", **settings) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(STOPPED_WITHIN_S) == 0


def test_worker_that_hangs_is_replaced_and_one_that_computes_is_not(tmp_path: Path, one_model: Path) -> None:
    settings = {"CIFAR10_WORKERS": "2", "CIFAR10_MODELS": str(one_model), "CIFAR10_WORKER_TIMEOUT_S": "3"}
    with running_server(tmp_path / "log", **settings) as server:
        eventually(lambda: server.log.read_text().count("ready; the default model is sequential") == 2)
        both = workers(server)
        with suspended(server.process.pid, *both):  # as a laptop that sleeps
            time.sleep(4)
        time.sleep(2)
        assert workers(server) == both
        os.kill(both[0], signal.SIGSTOP)
        eventually(lambda: both[0] not in workers(server) and len(workers(server)) == 2)
        assert both[1] in workers(server)
        assert f"worker {both[0]} is hung" in server.log.read_text()


def test_worker_that_crashes_again_and_again_is_restarted_less_often_and_not_in_a_stop(
    tmp_path: Path, one_model: Path
) -> None:
    settings = {"CIFAR10_WORKERS": "2", "CIFAR10_MODELS": str(one_model), "CIFAR10_GRACEFUL_SHUTDOWN_TIMEOUT_S": "1"}
    with running_server(tmp_path / "log", **settings) as server:
        eventually(lambda: len(workers(server)) == 2)
        first, second = workers(server)
        os.kill(first, signal.SIGSEGV)
        eventually(lambda: "restarting in 1 s" in server.log.read_text())
        os.kill(second, signal.SIGSEGV)
        eventually(lambda: "restarting in 2 s (2 failures in a row)" in server.log.read_text())
        eventually(lambda: len(workers(server)) == 2)
        lost, left = workers(server)
        os.kill(lost, signal.SIGKILL)
        eventually(lambda: f"worker {lost} was killed by SIGKILL" in server.log.read_text())
        server.process.send_signal(signal.SIGTERM)
        seen = {left}
        while server.process.poll() is None:
            seen |= set(workers(server))
        assert server.process.returncode == 0
        assert seen == {left}


def test_replacement_that_can_not_start_leaves_the_others_serving(tmp_path: Path, one_model: Path) -> None:
    with running_server(tmp_path / "log", CIFAR10_WORKERS="2", CIFAR10_MODELS=str(one_model)) as server:
        eventually(lambda: len(workers(server)) == 2)
        one_model.rename(tmp_path / "elsewhere")
        lost, left = workers(server)
        os.kill(lost, signal.SIGKILL)
        eventually(lambda: "exited with 2" in server.log.read_text())
        assert left in workers(server)
        assert httpx.get(f"{server.url}/livez").status_code == 200
        (tmp_path / "elsewhere").rename(one_model)
        eventually(lambda: len(workers(server)) == 2)
