"""The order of requests on one connection and on several, and cleanup after a disconnect."""

import asyncio
import gc
import weakref

import pytest
from starlette.types import Receive, Scope, Send

from service.http.hot_routes import HotRoutes
from service.http.middleware import Application
from service.http.protocol import MAX_PIPELINED_STARTS_PER_TICK
from service.http.reading import MAX_PIPELINED
from service.settings import Settings
from tests.service.connections import CHUNKED, GET, Connection, post, settle

pytestmark = pytest.mark.anyio


async def test_few_of_many_pipelined_requests_are_parsed_before_their_turn() -> None:
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
