"""Requests on one connection and on several: their order, early rejection, and cleanup after a disconnect."""

import asyncio
import gc
import weakref
from typing import Final

import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.errors import SettingsError
from service.http.forwarding import Forwarding
from service.http.middleware import Application, HotRoutes
from service.http.protocol import MAX_PIPELINED_STARTS_PER_TICK, protocol_with, read_head
from service.http.reading import MAX_HEADERS, MAX_PIPELINED
from service.inference.admission import Admission, Backlog
from service.settings import Settings
from tests.service.connections import CHUNKED, GET, Connection, post, settle

pytestmark = pytest.mark.anyio

HEAD = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 3"


async def test_few_of_many_pipelined_requests_are_parsed_ahead() -> None:
    connection = Connection()
    connection.may_answer.clear()
    await connection.send(GET * 5000, GET)
    assert len(connection.protocol.pipeline) == MAX_PIPELINED
    assert not connection.transport.is_reading
    connection.may_answer.set()
    for _ in range(5002):
        await settle()
        if len(connection.asked) == 5001:
            break
    assert connection.statuses == [200] * 5001
    assert connection.transport.is_reading


async def test_pipelined_requests_of_many_connections_begin_a_few_in_each_tick() -> None:
    first = Connection()
    connections = [first, *(Connection(beside=first) for _ in range(49))]
    for connection in connections:
        connection.protocol.data_received(GET * 5)
    started, most = 0, 0
    for _ in range(1000):
        await asyncio.sleep(0)
        now = sum(len(connection.asked) for connection in connections)
        if started >= len(connections):  # those that nothing stood before
            most = max(most, now - started)
        started = now
        if started == 5 * len(connections):
            break
    assert started == 5 * len(connections)
    assert most <= 2 * MAX_PIPELINED_STARTS_PER_TICK


async def test_requests_behind_a_rejected_one_are_answered_in_order() -> None:
    async def reject(scope: Scope, receive: Receive, send: Send) -> None:
        status = 503 if scope["method"] == "POST" else 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    connection = Connection(app=Application(reject, HotRoutes(Settings()), Settings()))
    await connection.send(post(b"body") + GET + CHUNKED + b"1\r\na\r\n0\r\n\r\n" + GET)
    assert connection.statuses == [503, 200, 503, 200]
    assert not connection.is_over


async def test_client_that_goes_leaves_nothing_but_a_note_of_each_request() -> None:
    connection = Connection()
    connection.may_answer.clear()
    await connection.send(post(b"body", path=b"/predict") * (MAX_PIPELINED + 50))
    protocol = weakref.ref(connection.protocol)
    gc.collect()
    gc.disable()  # what refers to itself would stay
    try:
        connection.protocol.connection_lost(None)
        del connection.protocol
        connection.may_answer.set()
        await settle()
        assert protocol() is None
    finally:
        gc.enable()
    assert len(connection.noted) == MAX_PIPELINED
    assert {(note.method, note.path, note.error, note.is_inference) for note in connection.noted} == {
        ("POST", "/predict", "client-gone", True)
    }


@pytest.mark.parametrize(
    ("target", "plain"),
    [
        (b"/predict?model=vgg16", False),
        (b"/v2/models/vgg16/infer", True),
        (b"/cifar/predict", False),
        (b"/cifar/v1/models/vgg16:predict", True),
    ],
)
def test_form_of_the_rejection_is_that_of_the_path_behind_the_prefix(target: bytes, plain: bool) -> None:
    head = read_head(HEAD % target, b"/cifar")
    assert head is not None
    assert (head.target, head.plain, head.body_bytes) == (target, plain, 3)


@pytest.mark.parametrize("root_path", ["", "/cifar"])
def test_requests_are_known_by_their_first_bytes_with_the_prefix_and_without(root_path: str) -> None:
    application = Application(FastAPI(), HotRoutes(Settings()), Settings(), forwarding=Forwarding(root_path))
    protocol = protocol_with(Backlog(Admission(1, 1), 1), application)
    for path in ("/predict", "/compare", "/v1/models/x:predict", "/v2/models/x/infer"):
        for prefix in ("", root_path):
            assert f"POST {prefix}{path} HTTP/1.1".encode().startswith(protocol.first_bytes)
    assert not b"POST /other/predict HTTP/1.1".startswith(protocol.first_bytes)
    assert not b"GET /cifar/predict HTTP/1.1".startswith(protocol.first_bytes)


def test_a_uvicorn_without_our_hooks_is_an_error_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(HttpToolsProtocol, "_start_asgi_task")
    application = Application(FastAPI(), HotRoutes(Settings()), Settings())
    with pytest.raises(SettingsError, match="has no _start_asgi_task"):
        protocol_with(Backlog(Admission(1, 1), 1), application)


WHOLE_HEAD: Final = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nA: b"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "head",
    [
        WHOLE_HEAD.replace(b"Host: x\r\n", b""),
        WHOLE_HEAD.replace(b"Host: x", b"Host: x\r\nHost: x"),
        WHOLE_HEAD.replace(b"Host: x", b"Host: a b"),
        WHOLE_HEAD.replace(b"Host: x", b"Host: x:y"),
        WHOLE_HEAD.replace(b"Host: x", b"Host: x:80:80"),
        WHOLE_HEAD.replace(b"Host: x", b"Host: x:123456"),
        WHOLE_HEAD.replace(b"HTTP/1.1", b"HTTP/1.7"),
        WHOLE_HEAD.replace(b"HTTP/1.1", b"HTTP/2.0"),
        WHOLE_HEAD.replace(b"A: b", b"A : b"),
        WHOLE_HEAD.replace(b"A: b", b"A: b\r\n c"),
        WHOLE_HEAD.replace(b"A: b", b"A: b\nC: d"),
        WHOLE_HEAD.replace(b"A: b", b"A: \x00"),
        WHOLE_HEAD.replace(b"A: b", b"A"),
        WHOLE_HEAD.replace(b"A: b", b"Transfer-Encoding: chunked"),
        WHOLE_HEAD.replace(b"A: b", b"\r\n".join([b"a: b"] * MAX_HEADERS)),
    ],
)
async def test_malformed_head_is_not_rejected_unparsed_under_load(head: bytes) -> None:
    assert read_head(WHOLE_HEAD) is not None
    assert read_head(head) is None
    connection = Connection(settings=Settings(max_backlog_requests=1))
    connection.backlog.add(b"/predict", lambda _: None)
    for _ in range(20):
        connection.backlog.add(b"/predict", lambda _: None)
    assert connection.backlog.rejects
    await connection.send(head + b"\r\n\r\nhello")
    assert connection.statuses[0] in {400, 431}
    assert connection.is_over
