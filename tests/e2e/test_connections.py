"""Connections of unusual clients, to every prediction route, over real sockets to a real server."""

import json
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Final

import httpx2 as httpx
import numpy as np
import pytest

from service.api.large_requests import LARGE_BYTES
from tests.conftest import SAMPLES
from tests.e2e.server import Server, running_server
from tests.e2e.test_fast_path import connection, log_lines, request
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

IMAGE: Final = SAMPLES[3].file.read_bytes()
ROWS: Final = {"instances": [np.zeros((32, 32, 3), np.uint8).tolist()]}
ENCODED: Final = {"signature_name": "encoded_images", "instances": [{"b64": b64encode(IMAGE).decode()}]}
INFER: Final = {
    "inputs": [{"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [b64encode(IMAGE).decode()]}]
}
FORM: Final = (
    b'--XX\r\nContent-Disposition: form-data; name="%s"; filename="caf\xe9.png"\r\nContent-Type: image/png\r\n\r\n'
    + IMAGE
    + b"\r\n--XX--\r\n"
)
FORM_TYPE: Final = "multipart/form-data; boundary=XX"
REQUESTS: Final = {
    "predict": ("/predict?model=sequential", "image/png", IMAGE),
    "form": ("/predict?model=sequential", FORM_TYPE, FORM.replace(b"%s", b"file")),
    "batch": ("/predict/batch?model=sequential", FORM_TYPE, FORM.replace(b"%s", b"files")),
    "compare": ("/compare", "image/png", IMAGE),
    "explain": ("/explain?model=sequential", "image/png", IMAGE),
    "V1": ("/v1/models/sequential:predict", "application/json", json.dumps(ENCODED).encode()),
    "V2": ("/v2/models/sequential/infer", "application/json", json.dumps(INFER).encode()),
    "large V1": (
        "/v1/models/sequential:predict",
        "application/json",
        json.dumps(ROWS).encode().ljust(LARGE_BYTES + 1),
    ),
}
OFFER: Final = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server") / "log") as started:
        yield started


def sent(name: str, *, chunked: bool = False, headers: str = "") -> bytes:
    path, content_type, body = REQUESTS[name]
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n{length}\r\n{headers}\r\n".encode()
    return head + (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body)


def next_answer(opened: socket.socket) -> tuple[int, bytes]:
    with HTTPResponse(opened) as response:
        response.begin()
        return response.status, response.read()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("name", REQUESTS)
def test_half_closed_connection_gets_its_answer(server: Server, name: str, *, chunked: bool) -> None:
    with connection(server) as opened:
        opened.sendall(sent(name, chunked=chunked))
        opened.shutdown(socket.SHUT_WR)
        status, body = next_answer(opened)
        assert status == 200, body
        assert opened.recv(1) == b""


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("name", REQUESTS)
def test_offer_to_upgrade_is_passed_over(server: Server, name: str, *, chunked: bool) -> None:
    whole = sent(name, chunked=chunked, headers=OFFER)
    head_bytes = whole.index(b"\r\n\r\n") + 4
    for pause_s in (0.0, 0.1):
        with connection(server) as opened:
            opened.sendall(whole[:head_bytes])
            time.sleep(pause_s)
            opened.sendall(whole[head_bytes:])
            status, body = next_answer(opened)
            assert status == 200, body
            opened.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert next_answer(opened) == (200, b'{"status":"alive"}')


@pytest.mark.parametrize("path", ["/", "/docs", "/livez", "/models", "/metrics", "/nothing"])
def test_offer_to_upgrade_is_passed_over_where_nothing_is_sent(server: Server, path: str) -> None:
    expected = 404 if path == "/nothing" else 200
    for offer in (OFFER, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"):
        with connection(server) as opened:
            opened.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{offer}\r\n".encode() * 2)
            assert [next_answer(opened)[0]] == [expected]


def test_clients_that_go_are_noted_and_leave_no_memory(tmp_path: Path) -> None:
    with running_server(tmp_path / "log") as server:

        def leave(clients: int) -> float:
            """Pipeline as much as is taken, read nothing, and go; the memory of the server afterwards, in MB."""
            opened = []
            for _ in range(clients):
                client = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
                client.setblocking(False)
                try:
                    for _ in range(20):
                        client.sendall(request() * 20)
                except BlockingIOError:
                    pass
                opened.append(client)
            for client in opened:
                client.close()
            wait_until_idle(server)
            status = Path(f"/proc/{server.process.pid}/status").read_text()
            return int(status.partition("VmRSS:")[2].split()[0]) / 1024

        leave(100)
        before_mb = leave(100)
        after_mb = [leave(100) for _ in range(3)][-1]
        assert after_mb < before_mb + 40
        lines = log_lines(server, 100)
        assert any(line.get("error") == "client-gone" for line in lines)
        assert 'cifar10_cancelled_total{model=""' in httpx.get(f"{server.url}/metrics").text
        assert "Traceback" not in server.log.read_text()
        assert "Exception" not in server.log.read_text()


def wait_until_idle(server: Server) -> None:
    wait_until(lambda: "cifar10_pending_requests 0.0" in httpx.get(f"{server.url}/metrics").text, look_every_s=0.1)
    time.sleep(0.5)


def test_heads_without_an_end_take_little_memory(server: Server) -> None:
    def memory_mb() -> float:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    start_mb = memory_mb()
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    clients = [socket.create_connection(address) for _ in range(300)]
    try:
        for client in clients:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 60_000)
        assert httpx.get(f"{server.url}/livez").status_code == 200
        for client in clients[:50]:
            client.sendall(b"a" * 10_000)
            assert next_answer(client)[0] == 431
    finally:
        for client in clients:
            client.close()
    assert memory_mb() < start_mb + 100
