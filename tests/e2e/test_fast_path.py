"""`POST /predict` over a real socket in the forms that decide which way it is answered, and as it ends early.

Batches wait for a second here, so that a request is still under way when something happens to it.
"""

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from tests.conftest import SAMPLES, golden_class
from tests.e2e.server import Server, running_server
from tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.slow

CONTENT = SAMPLES[3].file.read_bytes()
WAIT_S = 1.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server") / "log") as started:
        yield started


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with waiting_server(tmp_path_factory.mktemp("waiting")) as started:
        yield started


@contextmanager
def waiting_server(folder: Path) -> Iterator[Server]:
    """A server that computes nothing in the first second."""
    with running_server(folder / "log", CIFAR10_MAX_BATCH_DELAY_MS=str(WAIT_S * 1000)) as started:
        yield started


def request(*headers: str, path: str = "/predict?model=sequential", version: str = "HTTP/1.1") -> bytes:
    """A whole request with the image as its body."""
    head = [
        f"POST {path} {version}",
        "Host: x",
        "Content-Type: image/png",
        f"Content-Length: {len(CONTENT)}",
        *headers,
    ]
    return "\r\n".join([*head, "", ""]).encode() + CONTENT


@contextmanager
def connection(server: Server) -> Iterator[socket.socket]:
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), address.port or 80), timeout=20) as opened:
        yield opened


def read_answers(opened: socket.socket, count: int) -> list[tuple[int, dict[str, str], dict[str, object]]]:
    """Status, headers and document of the next answers."""
    answers: list[tuple[int, dict[str, str], dict[str, object]]] = []
    received = b""
    while len(answers) < count:
        head, end, rest = received.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100 ") and end:
            received = rest
            continue
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        length = int(headers.get("content-length", "0"))
        if not end or len(rest) < length:
            more = opened.recv(65536)
            assert more, f"closed after {received!r}"
            received += more
            continue
        answers.append((int(lines[0].split()[1]), headers, json.loads(rest[:length])))
        received = rest[length:]
    assert received == b""
    return answers


def log_lines(server: Server, count: int) -> list[dict[str, object]]:
    """The request log, once it has so many lines."""

    def lines() -> list[dict[str, object]]:
        return [json.loads(line) for line in server.log.read_text().splitlines() if '"service.requests"' in line]

    wait_until(lambda: len(lines()) >= count, look_every_s=0.05)
    return lines()


def test_every_way_to_send_gets_the_same_answer(server: Server) -> None:
    expected = httpx.post(
        f"{server.url}/predict", params={"model": "sequential"}, content=iter([CONTENT[:100], CONTENT[100:]]),
        headers={"Content-Type": "image/png"},
    ).json()  # fmt: skip
    assert expected["class_id"] == golden_class("sequential", SAMPLES[3])
    pieces = [request()[:20], request()[20:200], request()[200:]]
    for sent in ([request()], pieces, [request("Expect: 100-continue")]):
        with connection(server) as opened:
            for piece in sent:
                opened.sendall(piece)
                time.sleep(0.05)
            ((status, _, document),) = read_answers(opened, 1)
        assert (status, document["class_id"]) == (200, expected["class_id"])
        assert document["confidence"] == pytest.approx(expected["confidence"], abs=1e-6)


def test_requests_sent_in_one_piece_are_answered_in_order(server: Server) -> None:
    paths = ["/predict?model=functional", "/predict?model=nothing", "/predict?model=sequential&top_k=1", "/predict"]
    with connection(server) as opened:
        opened.sendall(b"".join(request(path=path) for path in paths))
        answers = read_answers(opened, len(paths))
    assert [status for status, _, _ in answers] == [200, 404, 200, 200]
    assert [document.get("model") for _, _, document in answers[:3]] == ["functional", None, "sequential"]


def test_connection_stays_or_closes_as_the_client_asks(server: Server) -> None:
    for whole in (request("Connection: close"), request(version="HTTP/1.0")):
        with connection(server) as opened:
            opened.sendall(whole)
            ((status, headers, _),) = read_answers(opened, 1)
            assert (status, headers["connection"]) == (200, "close")
            assert opened.recv(10) == b""
    with connection(server) as opened:
        for _ in range(3):
            opened.sendall(request())
            ((status, headers, _),) = read_answers(opened, 1)
            assert (status, headers.get("connection")) == (200, None)


def test_client_names_its_request(server: Server) -> None:
    with connection(server) as opened:
        opened.sendall(request("X-Request-ID: mine-1") + request())
        (_, first, _), (_, second, _) = read_answers(opened, 2)
    assert first["x-request-id"] == "mine-1"
    assert second["x-request-id"] != "mine-1"


def test_deadline_is_answered_while_the_image_waits(waiting: Server) -> None:
    with connection(waiting) as opened:
        opened.sendall(request("X-Request-Timeout-Ms: 100"))
        ((status, _, document),) = read_answers(opened, 1)
        assert (status, document["detail"]) == (504, "no answer within 0.1 s")
        opened.sendall(request("X-Request-Timeout-Ms: soon"))
        ((status, _, document),) = read_answers(opened, 1)
        assert status == 422
        assert "X-Request-Timeout-Ms" in str(document)


def test_client_that_goes_is_not_computed_for(waiting: Server) -> None:
    with connection(waiting) as opened:
        opened.sendall(request())
        time.sleep(0.1)
    wait_until(lambda: '"client-gone"' in waiting.log.read_text())
    (line,) = [entry for entry in log_lines(waiting, 1) if entry.get("error") == "client-gone"]
    assert line["model"] == "sequential"
    metrics = httpx.get(f"{waiting.url}/metrics").text
    assert 'cifar10_cancelled_total{model="sequential"' in metrics
    assert "cifar10_pending_requests 0.0" in metrics
    time.sleep(WAIT_S)
    assert "cifar10_batch_rows_count" not in httpx.get(f"{waiting.url}/metrics").text


def test_stop_answers_what_waits_and_closes_its_connection(tmp_path: Path) -> None:
    with waiting_server(tmp_path) as server, connection(server) as opened:
        opened.sendall(request())
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        ((status, headers, _),) = read_answers(opened, 1)
        assert (status, headers["connection"]) == (200, "close")
        assert opened.recv(10) == b""
        assert server.process.wait(PATIENCE_S) == 0
