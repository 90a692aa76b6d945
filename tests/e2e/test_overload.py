"""Overload: accepted requests are answered, the others are rejected at once, and everything else keeps working."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from cifar10_serving.artifacts.layout import version_folder
from tests.conftest import MODELS, SAMPLES
from tests.e2e.server import Server, running_server
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.anyio]
IMAGE = SAMPLES[3].file.read_bytes()
PENDING = 256
PREDICT = "/predict?model=sequential"


@dataclass(frozen=True)
class Response:
    status: int
    headers: str
    body: bytes


class Connection:
    """A connection that sends what no client library would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def response(self) -> Response:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = re.search(r"content-length: (\d+)", head)
        body = await self.reader.readexactly(int(length[1]) if length else 0)
        return Response(int(head[9:12]), head, body)

    async def ask(self, *parts: bytes) -> Response:
        for part in parts:
            self.writer.write(part)
            await asyncio.sleep(0.02 if len(parts) > 1 else 0)
        return await self.response()

    async def is_closed(self) -> bool:
        return await self.reader.read(1) == b""


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Connection]:
    address = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


def head(path: str = PREDICT, extra: str = "", length: int = len(IMAGE)) -> bytes:
    lines = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n{extra}Content-Length: {length}\r\n\r\n"
    return lines.encode()


REQUEST = head() + IMAGE
CLOSING = {
    "asks to close": (head(extra="Connection: close\r\n") + IMAGE,),
    "asks to close, in parts": (head(extra="Connection: close\r\n"), IMAGE),
    "HTTP/1.0": (REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"),),
    "waits for 100": (head(extra="Expect: 100-continue\r\n"),),
    "chunked": (b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
}
"""Requests after which the connection is closed, each in the parts in which it is sent."""


async def predict(server: Server) -> Response:
    async with connected(server) as connection:
        return await connection.ask(REQUEST)


@asynccontextmanager
async def filled(server: Server) -> AsyncIterator[list[Connection]]:
    """Have as many requests inside as the service takes; they are answered in the end."""
    connections = []
    for _ in range(PENDING):
        context = connected(server)
        connection = await context.__aenter__()
        connection.writer.write(REQUEST[:-1])
        connections.append((context, connection))
    await asyncio.to_thread(wait_until_all_are_inside, server)
    yield [connection for _, connection in connections]
    answers = await asyncio.gather(*(connection.ask(REQUEST[-1:]) for _, connection in connections))
    assert {answer.status for answer in answers} == {HTTPStatus.OK}
    for context, _ in connections:
        await context.__aexit__(None, None, None)


def wait_until_all_are_inside(server: Server) -> None:
    wait_until(lambda: f"cifar10_pending_requests {PENDING}.0" in metrics(server))


def metrics(server: Server) -> str:
    return httpx.get(f"{server.url}/metrics").text


def rejected(server: Server) -> float:
    found = re.findall(r"^cifar10_rejected_total{.*} (\S+)", metrics(server), re.MULTILINE)
    return sum(map(float, found))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("overload")
    version = version_folder(folder / "models", "sequential", 1)
    version.parent.mkdir(parents=True)
    version.symlink_to(version_folder(MODELS, "sequential", 1))
    with running_server(
        folder / "log", CIFAR10_MODELS=str(folder / "models"), CIFAR10_MAX_PENDING_REQUESTS=str(PENDING)
    ) as started:
        yield started


async def test_as_many_at_once_as_are_taken_are_all_answered(server: Server) -> None:
    answers = await asyncio.gather(*(predict(server) for _ in range(PENDING)))
    assert Counter(answer.status for answer in answers) == {HTTPStatus.OK: PENDING}


async def test_more_are_rejected_at_once_on_a_connection_that_stays_and_are_counted(server: Server) -> None:
    before = rejected(server)
    async with filled(server), connected(server) as connection:
        for _ in range(100):  # a request that had to wait would wait for all those inside
            answer = await connection.ask(REQUEST)
            assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE
        assert "content-type: application/problem+json" in answer.headers
        assert re.search(r"\r\nretry-after: [1-9]\d*\r\n", answer.headers)
        assert f'"detail":"{PENDING} requests are being received, queued or computed"' in answer.body.decode()
        for path in ("/livez", "/readyz", "/metrics", "/stats", "/models"):
            asked = await connection.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert asked.status == HTTPStatus.OK
    await asyncio.to_thread(wait_until, lambda: rejected(server) == before + 100)
    await asyncio.to_thread(
        wait_until, lambda: re.search(r"rejected \d+ requests.*: overloaded", server.log.read_text())
    )
    assert (await predict(server)).status == HTTPStatus.OK


async def test_each_protocol_and_each_way_to_send_is_rejected_in_its_form(server: Server) -> None:
    async with filled(server):
        for path in ("/v2/models/sequential/infer", "/v1/models/sequential:predict"):
            async with connected(server) as connection:
                answer = await connection.ask(head(path) + IMAGE)
                assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE
                assert "content-type: application/json" in answer.headers
                assert answer.body.startswith(b'{"error":"256 requests are being received')
        async with connected(server) as connection:  # a body that comes later is skipped, and the connection goes on
            rejected = await connection.ask(head(), IMAGE[:100], IMAGE[100:])
            assert rejected.status == HTTPStatus.SERVICE_UNAVAILABLE
            again = await connection.ask(head(), IMAGE + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert again.status == HTTPStatus.SERVICE_UNAVAILABLE
            assert (await connection.response()).status == HTTPStatus.OK
        for name, parts in CLOSING.items():
            async with connected(server) as connection:
                answer = await connection.ask(*parts)
                assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE, name
                assert "connection: close" in answer.headers, name
                connection.writer.write_eof()
                assert await connection.is_closed(), name


async def test_full_queue_rejects_requests_for_its_model(one_model: Path, tmp_path: Path) -> None:
    settings = {"CIFAR10_MODELS": str(one_model), "CIFAR10_MAX_QUEUE_SIZE_PER_MODEL": "8"}
    with running_server(tmp_path / "log", **settings) as server:
        statuses: Counter[int] = Counter()

        async def ask(times: int) -> None:
            async with connected(server) as connection:
                for _ in range(times):
                    statuses[(await connection.ask(REQUEST)).status] += 1

        await asyncio.gather(*(ask(10) for _ in range(50)))
        assert statuses.total() == 50 * 10
        assert statuses.keys() == {HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE}
        told = r"rejected \d+ requests for sequential version 1: overloaded"
        await asyncio.to_thread(wait_until, lambda: re.search(told, server.log.read_text()))
