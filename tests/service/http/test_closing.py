"""The end of connections: malformed requests, time-outs, and half or full closes."""

import re
from typing import Final

import pytest

from tests.service.connections import CHUNKED, GET, HIDDEN, LIMITS, Connection, get, post, settle

pytestmark = pytest.mark.anyio

MALFORMED: Final = [
    b"GARBAGE\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"get /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /a HTTP/1.1\nHost: x\n\n",
    b"GET /a HTTP/1.1\nHost",
    b"GET /a HTTP/1.2\r\nHost: x\r\n\r\n",
    b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n",
    b"GET /a\r\n\r\n",
    b"OPTIONS /a RTSP/1.0\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x:99999/ HTTP/1.1\r\nHost: x\r\n\r\n",
    get(),
    get(b"Host: x", b"Host: x"),
    get(b"Host: x", b"Host: y"),
    *(get(b"Host: " + host) for host in (b"a b", b"a/b", b"u@x", b"x:y", b"\xe9", b"x, y", b"[::1", b"x:80:80")),
    *(
        post(b"5\r\nhello\r\n0\r\n\r\n").replace(b"Content-Length: 15", fields)
        for fields in (
            b"Content-Length: 4\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 4",
            b"Content-Length: 5\r\nContent-Length: 6",
            b"Content-Length: 5, 6",
            b"Content-Length: +5",
            b"Content-Length: -5",
            b"Content-Length: 0x5",
            b"Content-Length: 99999999999999999999",
            b"Content-Length:",
            b"Content-Length : 5",
            b"Content-Length\t: 5",
            b" Content-Length: 5",
            b"Transfer-Encoding: gzip",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: chunked, identity",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding:\r\n chunked",
            b"A: b\r\n folded",
            b"A: b\r\n \t\r\nContent-Length: 5",
            b"A: b\nContent-Length: 5",
            b"A: b\rContent-Length: 5",
            b"A: \x00",
            b"A: \x7f",
            b"A B: c",
            b": c",
            b"A",
        )
    ),
    post(b"").replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"),
    CHUNKED + b"5 \r\nhello\r\n",
    CHUNKED + b"zz\r\n",
    CHUNKED + b"-1\r\n",
    CHUNKED + b"fffffffffffffffff\r\n",
    CHUNKED + b"5\nhello\n",
    CHUNKED + b"5\r\nhelloxx",
    CHUNKED + b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
]


@pytest.mark.parametrize("sent", MALFORMED)
async def test_malformed_request_is_answered_behind_those_before_it_and_nothing_of_it_is_another(sent: bytes) -> None:
    connection = Connection()
    await connection.send(GET + post(b"body") + sent + HIDDEN, HIDDEN)
    assert connection.statuses == [200, 200, 400]
    assert connection.problem["title"] == "The request can't be read"
    assert connection.problem["detail"]
    last_head = connection.transport.written.rpartition(b"HTTP/1.1 400")[2]
    for line in (b"connection: close", b"x-content-type-options: nosniff", b"referrer-policy: no-referrer"):
        assert line in last_head
    assert last_head.count(b"x-request-id: ") == 1
    assert connection.is_over
    assert "/hidden" not in str(connection.asked)
    assert (connection.noted[-1].status, connection.noted[-1].error) == (400, "invalid-request")
    assert connection.noted[-1].detail == connection.problem["detail"]


@pytest.mark.parametrize("sent", [b"GARBAGE\r\n\r\n", GET + CHUNKED + b"zz"])
async def test_answer_to_a_malformed_request_has_the_id_by_which_it_is_noted(sent: bytes) -> None:
    connection = Connection()
    await connection.send(sent)
    found = re.findall(rb"x-request-id: (\S+)", connection.transport.written)
    assert [note.request_id.encode() for note in connection.noted] == found


async def test_malformed_request_for_another_protocol_gets_its_form_of_error() -> None:
    connection = Connection()
    await connection.send(b"GET /v2/models HTTP/1.1\r\n\r\n")
    assert (connection.statuses, list(connection.problem)) == ([400], ["error"])
    assert (connection.noted[-1].path, connection.noted[-1].status) == ("/v2/models", 400)


async def test_answer_to_a_malformed_request_can_be_read_by_a_client_that_is_still_sending() -> None:
    connection = Connection()
    await connection.send(b"GARBAGE\r\n\r\n", bytes(2**20), HIDDEN)
    assert (connection.statuses, connection.transport.had_eof, connection.transport.closed) == ([400], True, False)
    connection.clock.pass_by(10)
    assert connection.transport.closed


@pytest.mark.parametrize(
    ("sent", "waits_s", "status"),
    [
        (b"", LIMITS.keep_alive_timeout_s, None),
        (GET, LIMITS.keep_alive_timeout_s, 200),
        (b"G", LIMITS.header_timeout_s, 408),
        (b"\r\n", LIMITS.header_timeout_s, 408),
        (GET + GET[:-1], LIMITS.header_timeout_s, 408),
        (post(b"body")[:-1], LIMITS.upload_timeout_s + LIMITS.request_timeout_s, 408),
    ],
)
async def test_client_that_lets_us_wait_is_waited_for_no_longer_than_this(
    sent: bytes, waits_s: float, status: int | None
) -> None:
    connection = Connection()
    await connection.send(sent)
    connection.clock.pass_by(waits_s - 0.5)
    assert not connection.is_over
    connection.clock.pass_by(1)
    await settle()
    assert connection.is_over
    assert connection.statuses[-1:] == ([] if status is None else [status])


async def test_head_that_comes_drop_by_drop_has_no_more_time() -> None:
    for drop in (b"a", b"\r\n"):
        connection = Connection()
        await connection.send(b"\r\n" if drop == b"\r\n" else b"GET /")
        for _ in range(12):
            connection.clock.pass_by(1)
            await connection.send(drop)
        assert (connection.is_over, connection.statuses) == (True, [408])


async def test_connection_is_not_closed_while_it_is_used_or_its_answer_computed() -> None:
    connection = Connection()
    for _ in range(5):
        connection.clock.pass_by(LIMITS.keep_alive_timeout_s - 1)
        await connection.send(GET)
    connection.may_answer.clear()
    await connection.send(GET)
    connection.clock.pass_by(100)
    assert not connection.is_over
    connection.may_answer.set()
    await settle()
    assert connection.statuses == [200] * 6
    connection.clock.pass_by(LIMITS.keep_alive_timeout_s + 1)
    assert connection.transport.closed


async def test_client_that_reads_nothing_is_given_up() -> None:
    connection = Connection()
    await connection.send(GET)
    connection.protocol.pause_writing()
    connection.clock.pass_by(300)
    assert connection.transport.aborted


async def test_half_closed_connection_gets_its_answers() -> None:
    connection = Connection()
    connection.may_answer.clear()
    await connection.send(post(b"body") + GET)
    await connection.end()
    assert not connection.transport.closed
    connection.clock.pass_by(3)
    connection.may_answer.set()
    await settle()
    assert connection.transport.closed
    assert connection.statuses == [200, 200]
    assert re.match(rb"HTTP/1\.1 200 OK\r\n", connection.transport.written)


async def test_client_that_waits_or_has_gone_is_told_apart_by_the_beginning_of_the_answer() -> None:
    connection = Connection()
    connection.may_answer.clear()
    await connection.send(GET)
    await connection.end()
    connection.clock.pass_by(0.1)
    assert connection.transport.written in (b"HT", b"HTT")
    connection.protocol.connection_lost(BrokenPipeError())
    connection.may_answer.set()
    await settle()
    assert connection.statuses == []


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (b"", []),
        (GET, [200]),
        (GET[:-1], [400]),
        (GET + GET[:5], [200, 400]),
        (post(b"body")[:-1], [400]),
        (GET + post(b"body")[:-1], [200, 400]),
        (CHUNKED + b"1\r\na\r\n0\r\n", [400]),
        (GET * 100, [200] * 100),
        (GET * 100 + GET[:-1], [200] * 100 + [400]),
    ],
)
async def test_connection_that_ends_anywhere_is_answered_and_closed(sent: bytes, statuses: list[int]) -> None:
    connection = Connection()
    connection.protocol.data_received(sent)
    await connection.end()
    for _ in range(200):
        await settle()
    assert connection.statuses == statuses
    assert connection.transport.closed
