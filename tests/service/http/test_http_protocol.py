"""HTTP/1.1 at the level of bytes: limits, malformed requests, offers to upgrade, pipelining, and clients that go."""

import asyncio
import gc
import re
import weakref
from typing import Final

import pytest
from starlette.types import Receive, Scope, Send

from service.http.early_rejection import read_head
from service.http.head import MAX_HEADERS, MAX_TARGET_BYTES, ConnectionLimits
from service.http.hot_routes import HotRoutes
from service.http.middleware import Application
from service.http.protocol import MAX_PIPELINED_STARTS_PER_TICK
from service.http.reading import MAX_PIPELINED
from service.settings import Settings
from tests.service.connections import LIMITS, Connection, listening, settle

pytestmark = pytest.mark.anyio

GET: Final = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED: Final = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
HIDDEN: Final = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
KIB: Final = 2**10


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


def post(body: bytes, *headers: bytes, path: bytes = b"/p") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *headers, b"", b""]
    return b"\r\n".join(lines) + body


def get(*headers: bytes) -> bytes:
    return b"\r\n".join([b"GET /a HTTP/1.1", *headers, b"", b""])


def head_of(size: int) -> bytes:
    start = b"GET /a HTTP/1.1\r\nHost: x\r\nA: "
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


def get_of(target_bytes: int) -> bytes:
    return b"GET /" + b"a" * (target_bytes - 1) + b" HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_requests_are_read_however_they_are_cut() -> None:
    sent = (
        b"\r\n\r\n"
        + post(b"first")
        + CHUNKED
        + b"3;a=b\r\nsec\r\n3\r\nond\r\n0\r\nX-T: 1\r\n\r\n"
        + post(b"")
        + GET
        + b"\n"
        + GET
    )
    for size in (1, 2, 3, 5, 7, 64, len(sent)):
        connection = Connection()
        await connection.send(*(sent[place : place + size] for place in range(0, len(sent), size)))
        asked = [("POST", "/p", b"first"), ("POST", "/c", b"second"), ("POST", "/p", b"")]
        assert connection.asked == [*asked, ("GET", "/a", b""), ("GET", "/a", b"")]
        assert connection.statuses == [200] * 5
        assert not connection.is_over


@pytest.mark.parametrize(
    "sent",
    [
        head_of(64 * KIB),
        b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * (MAX_HEADERS - 1) + b"\r\n",
        get_of(MAX_TARGET_BYTES),
        b"\r\n" * 100 + GET,
        CHUNKED + b"1\r\na\r\n" * 30_000 + b"0\r\n\r\n",
        CHUNKED + b"0\r\n" + b"a: b\r\n" * MAX_HEADERS + b"\r\n",
    ],
)
async def test_request_within_the_limits_is_answered(sent: bytes) -> None:
    connection = Connection()
    await connection.send(sent)
    assert connection.statuses == [200]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head_of(64 * KIB + 1), 431),
        (head_of(64 * KIB + 5)[:-4], 431),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"a" * 65 * KIB, 431),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * MAX_HEADERS + b"\r\n", 431),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * (MAX_HEADERS + 1), 431),
        (GET + head_of(64 * KIB + 1), 431),
        (post(b"body") + head_of(64 * KIB + 5)[:-4], 431),
        (b"\r\n" * 33 * KIB, 431),
        (b"\n" * 65 * KIB, 431),
        (CHUNKED + b"1;" + b"a" * 65 * KIB, 431),
        (CHUNKED + b"1;" + b"a" * 100 + b"\r\na\r\n1;" * 700, 400),
        (CHUNKED + (b"1;" + b"a" * 200 + b"\r\na\r\n") * 700, 431),
        (CHUNKED + b"0\r\na: " + b"a" * 65 * KIB, 431),
        (CHUNKED + b"0\r\n" + b"a: b\r\n" * (MAX_HEADERS + 1) + b"\r\n", 431),
        (get_of(MAX_TARGET_BYTES + 1), 414),
        (get_of(100 * KIB)[:-25], 414),
        (b"GET /" + b"a" * 9 * KIB, 414),
        (b"A" * 100, 400),
    ],
)
async def test_request_over_a_limit_is_rejected_as_soon_as_it_is_over(sent: bytes, status: int) -> None:
    connection = Connection()
    await connection.send(*(sent[place : place + 4 * KIB] for place in range(0, len(sent), 4 * KIB)))
    assert connection.statuses[-1] == status
    assert connection.problem["status"] == status
    assert connection.is_over


async def test_limit_of_a_head_is_a_setting() -> None:
    connection = Connection(limits=ConnectionLimits(max_header_bytes=KIB))
    await connection.send(head_of(KIB), head_of(KIB + 1))
    assert connection.statuses == [200, 431]


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


@pytest.mark.parametrize("host", [b"", b"x", b"x:80", b"127.0.0.1:8000", b"[::1]:80", b"a_b.example", b" x\t"])
async def test_host_is_taken(host: bytes) -> None:
    connection = Connection()
    await connection.send(get(b"Host:" + host), b"GET /old HTTP/1.0\r\n\r\n")
    assert connection.statuses == [200, 200]


async def test_target_is_taken_in_each_form() -> None:
    connection = Connection()
    for target in (b"/a%20b?c=d", b"http://x/a?b", b"http://x", b"*"):
        await connection.send(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [path for _, path, _ in connection.asked] == ["/a b", "/a", "/", "*"]


async def test_blanks_around_values_are_no_part_of_them() -> None:
    sent = (
        b"POST /p HTTP/1.1\r\nHost: x \r\nContent-Type:\timage/png \t \r\nX-Empty: \t\r\n"
        b"Transfer-Encoding: chunked\t\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
    )
    for send in (Connection.send, Connection.send_bytewise):
        connection = Connection()
        await send(connection, sent)
        assert connection.asked == [("POST", "/p", b"body")]
        headers = connection.headers[0]
        assert (headers[b"content-type"], headers[b"x-empty"], headers[b"host"]) == (b"image/png", b"", b"x")


async def test_trailer_does_not_pass_for_a_header() -> None:
    connection = Connection()
    await connection.send(CHUNKED + b"1\r\na\r\n0\r\nX-Request-ID: forged\r\n\r\n")
    assert b"x-request-id" not in connection.headers[0]


OFFERS: Final = [
    (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
    (b"Upgrade: TLS/1.2", b"Connection: upgrade"),
    (b"Connection: Upgrade", b"upgrade:websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: eA=="),
    (b"Connection: keep-alive, Upgrade", b"Upgrade: h2c, h3", b"Upgrade: x"),
    (b"Connection: Upgrade",),
    (b"Upgrade: h2c",),
]


@pytest.mark.parametrize("offer", OFFERS)
async def test_offer_to_upgrade_is_passed_over(offer: tuple[bytes, ...]) -> None:
    chunked = CHUNKED.replace(b"\r\n\r\n", b"\r\n" + b"\r\n".join(offer) + b"\r\n\r\n") + b"24\r\n"
    chunked = chunked.replace(b"24\r\n", b"%x\r\n" % len(HIDDEN)) + HIDDEN + b"\r\n0\r\n\r\n"
    whole = get(b"Host: x", *offer) + post(HIDDEN, *offer) + chunked + GET
    asked = [("GET", "/a", b""), ("POST", "/p", HIDDEN), ("POST", "/c", HIDDEN), ("GET", "/a", b"")]
    for parts in ([whole], whole.partition(HIDDEN), [whole[place : place + 1] for place in range(len(whole))]):
        connection = Connection()
        await connection.send(*parts)
        assert connection.asked == asked
        assert connection.statuses == [200] * 4
        assert not connection.is_over


@pytest.mark.parametrize("options", [b"Upgrade, close", b"close, upgrade"])
async def test_offer_of_a_client_that_closes_is_passed_over(options: bytes) -> None:
    offer = (b"Upgrade: h2c", b"Connection: " + options)
    for sent, asked in (
        (get(b"Host: x", *offer), ("GET", "/a", b"")),
        (post(HIDDEN, *offer), ("POST", "/p", HIDDEN)),
    ):
        connection = Connection()
        await connection.send(GET, sent, HIDDEN)
        assert connection.asked == [("GET", "/a", b""), asked]
        assert connection.statuses == [200, 200]
        assert connection.is_over


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


async def test_real_client_that_waits_half_closed_is_answered_and_one_that_has_gone_is_noticed() -> None:
    answered, gone = asyncio.Event(), asyncio.Event()

    async def wait_for_client(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/gone":
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()
            return
        await answered.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async with listening(wait_for_client) as port:
        reader, waiting = await asyncio.open_connection("127.0.0.1", port)
        waiting.write(GET)
        waiting.write_eof()
        _, leaving = await asyncio.open_connection("127.0.0.1", port)
        leaving.write(GET.replace(b"/a", b"/gone"))
        await asyncio.sleep(0.1)
        leaving.close()
        await asyncio.wait_for(gone.wait(), 30)
        answered.set()
        answer = await asyncio.wait_for(reader.read(), 30)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nok")
        waiting.close()


async def test_real_connection_that_asks_nothing_or_never_ends_its_head_is_closed() -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError(scope)

    limits = ConnectionLimits(header_timeout_s=0.2, keep_alive_timeout_s=0.1)
    async with listening(never, limits) as port:
        for sent, status in ((b"", b""), (GET[:-1], b"HTTP/1.1 408")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            assert (await asyncio.wait_for(reader.read(), 30)).startswith(status)
            writer.close()


HEAD: Final = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nA: b"


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"Host: x\r\n", b""),
        HEAD.replace(b"Host: x", b"Host: x\r\nHost: x"),
        HEAD.replace(b"Host: x", b"Host: a b"),
        HEAD.replace(b"Host: x", b"Host: x:y"),
        HEAD.replace(b"Host: x", b"Host: x:80:80"),
        HEAD.replace(b"Host: x", b"Host: x:123456"),
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.7"),
        HEAD.replace(b"HTTP/1.1", b"HTTP/2.0"),
        HEAD.replace(b"A: b", b"A : b"),
        HEAD.replace(b"A: b", b"A: b\r\n c"),
        HEAD.replace(b"A: b", b"A: b\nC: d"),
        HEAD.replace(b"A: b", b"A: \x00"),
        HEAD.replace(b"A: b", b"A"),
        HEAD.replace(b"A: b", b"Transfer-Encoding: chunked"),
        HEAD.replace(b"A: b", b"\r\n".join([b"a: b"] * MAX_HEADERS)),
    ],
)
async def test_malformed_head_is_not_rejected_unparsed_under_load(head: bytes) -> None:
    assert read_head(HEAD) is not None
    assert read_head(head) is None
    connection = Connection(settings=Settings(max_backlog_requests=1))
    connection.backlog.add(b"/predict", lambda _: None)
    for _ in range(20):
        connection.backlog.add(b"/predict", lambda _: None)
    assert connection.backlog.rejects
    await connection.send(head + b"\r\n\r\nhello")
    assert connection.statuses[0] in {400, 431}
    assert connection.is_over
