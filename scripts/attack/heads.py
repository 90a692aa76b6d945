"""Request heads that are too long, endless, malformed or ambiguous (request smuggling); upgrade offers."""

import random
from typing import Final

from scripts.attack.attempts import SENTINEL, Attempt, Due, chance, due, query, request
from scripts.attack.right import boundary, form, form_type, in_chunks, predicting
from scripts.attack.world import World

GET: Final = b"GET /livez HTTP/1.1\r\n"
HOST: Final = b"Host: attack\r\n"
POST: Final = b"POST /predict HTTP/1.1\r\nHost: attack\r\nContent-Type: image/png\r\n"
HIDDEN: Final = b"GET /models HTTP/1.1\r\nHost: attack\r\n\r\n"
"""A request hidden inside another one's body: an answer to it is wrong."""
MAX_HEAD_BYTES: Final = 64 * 2**10
MAX_HEADERS: Final = 100
MAX_TARGET_BYTES: Final = 8 * 2**10

MALFORMED: Final = {
    "no version": b"GET /livez\r\n" + HOST + b"\r\n",
    "another protocol": b"GET /livez SPDY/3\r\n" + HOST + b"\r\n",
    "a version that there is not": b"GET /livez HTTP/9.9\r\n" + HOST + b"\r\n",
    "no target": b"GET  HTTP/1.1\r\n" + HOST + b"\r\n",
    "two spaces": b"GET /livez extra HTTP/1.1\r\n" + HOST + b"\r\n",
    "a control character in the target": b"GET /li\x01vez HTTP/1.1\r\n" + HOST + b"\r\n",
    "an unknown method": b"BREW /livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "a blank before the colon": GET + b"Host : attack\r\n\r\n",
    "a header without a name": GET + HOST + b": nothing\r\n\r\n",
    "a header without a colon": GET + HOST + b"nothing\r\n\r\n",
    "NUL in a header": GET + HOST + b"X-Thing: a\x00b\r\n\r\n",
    "CR in a header": GET + HOST + b"X-Thing: a\rb\r\n\r\n",
    "a blank in a name": GET + HOST + b"X Thing: a\r\n\r\n",
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("1603010200010001fc0303") + bytes(range(200)),
    "no HTTP at all": b"\x00\xff" * 100 + b"\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a signed length": POST + b"Content-Length: +4\r\n\r\nabcd",
    "a length in hexadecimal": POST + b"Content-Length: 0x4\r\n\r\nabcd",
    "a length without end": POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
    "a length of two numbers": POST + b"Content-Length: 4, 5\r\n\r\nabcd",
    "two lengths": POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "no Host": GET + b"\r\n",
    "two Hosts": GET + HOST + b"Host: other\r\n\r\n",
    "an unknown transfer encoding": POST + b"Transfer-Encoding: rot13\r\n\r\nabcd",
    "a chunk without a size": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabcd\r\n0\r\n\r\n",
    "a chunk of a negative size": POST + b"Transfer-Encoding: chunked\r\n\r\n-4\r\nabcd\r\n0\r\n\r\n",
    "a chunk size without end": POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\nabcd\r\n0\r\n\r\n",
}
SMUGGLING: Final = {
    "length and chunks": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (len(HIDDEN) + 5),
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunked, not last": b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "a blank before the colon": b"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "a tab before chunked": b"Transfer-Encoding:\tchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "a vertical tab": b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "a folded line": b"X-Thing: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "a line that ends with LF": b"X-Thing: a\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "a chunk that ends with LF": b"Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
    "a chunk extension with LF": b"Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\na\r\n0\r\n\r\n",
}
OFFERS: Final = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQB\r\n",
    b"Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
    b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c, foo/2\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eDNKSE1iREwx\r\n",
    b"Upgrade: h2c\r\n",
)


def malformed(draw: random.Random, _world: World) -> Attempt:
    """Draw a malformed head: 400 or another client error, and the connection is closed."""
    name = draw.choice(list(MALFORMED))
    statuses = {400, 404, 405, 501, 505}
    if name == "no version":  # HTTP/0.9, which parsers still accept
        statuses.add(200)
    return Attempt(name, MALFORMED[name], due(*statuses), may_close=True)


def too_long(draw: random.Random, _world: World) -> Attempt:
    """Draw a head beyond a limit: 431, or 414 for the target."""
    match draw.randrange(4):
        case 0:
            filler = b"X-Filler: " + b"a" * draw.randrange(MAX_HEAD_BYTES, 4 * MAX_HEAD_BYTES) + b"\r\n\r\n"
            return Attempt("one header", GET + HOST + filler, due(431), must_close=True)
        case 1:
            count = draw.randrange(MAX_HEADERS + 1, 2000)
            headers = b"".join(b"X-%d: a\r\n" % index for index in range(count))
            return Attempt("many headers", GET + HOST + headers + b"\r\n", due(431), must_close=True)
        case 2:
            target = b"/livez?" + b"a" * draw.randrange(MAX_TARGET_BYTES, 8 * MAX_TARGET_BYTES)
            return Attempt("target", b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n", due(414), must_close=True)
        case _:
            content = GET + b"X-A: " + b"b" * draw.randrange(2 * MAX_HEAD_BYTES, 16 * MAX_HEAD_BYTES)
            return Attempt("without an end", content, due(431), must_close=True)


def long_but_right(draw: random.Random, world: World) -> Attempt:
    """Draw a long head within all limits, which must be answered."""
    content, check = predicting(draw, world)
    headers = b"".join(b"X-%d: %b\r\n" % (index, b"a" * 300) for index in range(draw.randrange(50, 90)))
    return Attempt("long", content.replace(HOST, HOST + headers, 1), due(200, check=check), reuses=True)


def smuggling(draw: random.Random, _world: World) -> Attempt:
    """Draw a request whose body end is ambiguous: at most one answer, then the connection is closed."""
    name = draw.choice(list(SMUGGLING))
    content = POST + SMUGGLING[name] + HIDDEN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    if name == "a folded line":  # a server that unfolds it sees a complete request, and a second one after it
        return Attempt(name, content, (Due(frozenset({400})), Due(frozenset({200}))), may_close=True, must_close=True)
    return Attempt(name, content, due(400, 501), may_close=True, must_close=True)


def upgrade(draw: random.Random, world: World) -> Attempt:
    """Draw a request with an upgrade offer, which must be ignored; the next request must be answered."""
    content, check = predicting(draw, world)
    if chance(draw, 0.3):
        # The body looks like a request: a server that ends the request at its head would answer it.
        asked, mark = world.target(draw), boundary(draw)
        body = form([("file", "a.png", "image/png", HIDDEN)], mark)
        content = request("POST", query("/predict", model=asked.model), body, [form_type(mark)])
        answers = due(400)
    else:
        answers = due(200, check=check)
    if chance(draw, 0.2):
        content, answers = request("GET", "/models"), due(200)
    elif chance(draw, 0.3):
        content = in_chunks(content)
    content = content.replace(HOST, HOST + draw.choice(OFFERS), 1)
    end = content.index(b"\r\n\r\n") + 4
    cuts = draw.choice([(), (end,), (end, end + 10)])
    return Attempt(
        "post", content + SENTINEL, (*answers, Due(frozenset({200}))), must_close=True, cuts=cuts, pause_s=0.02
    )


def half_head(draw: random.Random, world: World) -> Attempt:
    """Send an incomplete head: the service must close the connection after the timeout."""
    content, _ = predicting(draw, world)
    head = content[: content.index(b"\r\n\r\n") + 2]
    return Attempt(
        "half head", head[: draw.randrange(1, len(head))], due(408), may_close=True, must_close=True, is_slow=True
    )
