"""From bytes to requests: limits, upgrade offers, and data split at any position."""

from typing import Final

import pytest

from service.http.reading import MAX_HEADERS, MAX_TARGET_BYTES, ConnectionLimits
from tests.service.connections import CHUNKED, GET, HIDDEN, Connection, get, post

pytestmark = pytest.mark.anyio

KIB: Final = 2**10


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
