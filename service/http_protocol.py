"""HTTP as uvicorn speaks it, but for overload: requests for predictions wait in a backlog, or are refused unparsed.

Under overload most requests are refused, so it must cost next to nothing: the answer to one that is refused is made
once for many, and sent when its head is seen. Where that is not safe (no plain Content-Length, a client that waits for
"100 Continue", a very large body, pipelining), the request takes the usual way, on which it is refused, too.
"""

import re
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar, Final

from starlette.requests import ClientDisconnect
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.plain_errors import plain_error
from service.api.problems import PROBLEM_TYPE, problem_response
from service.core.backlog import Backlog, Begun, Refusal
from service.observing import BEGUN

PATHS: Final = ("/predict", "/compare", "/explain", "/v1/models/", "/v2/models/")
"""What begins so, asked with POST, asks for predictions."""
FIRST_BYTES: Final = tuple(f"POST {path}".encode() for path in PATHS)
PLAIN_FIRST_BYTES: Final = (b"POST /v1/", b"POST /v2/")
HEAD_END: Final = b"\r\n\r\n"
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,10})[ \t]*(?:\r\n(?![ \t])|\Z)")
UNUSUAL: Final = (b"transfer-encoding", b"expect", b"upgrade")
CLOSE: Final = re.compile(rb" http/1\.0(?:\r\n|\Z)|\r\nconnection:(?![ \t]*keep-alive[ \t]*(?:\r\n|\Z))")
MOST_SKIPPED_BYTES: Final = 2**20
MOST_HEAD_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Head:
    """What there is to know of a request that is refused.

    `closes`: its connection is closed after the answer; `plain`: its errors are `{"error": "…"}`.
    """

    target: bytes
    body_bytes: int
    closes: bool
    plain: bool

    @property
    def form(self) -> tuple[bool, bool]:
        """Requests of the same form get the same answer."""
        return self.plain, self.closes


@lru_cache(maxsize=1024)
def read_head(head: bytes) -> Head | None:
    """Of the bytes of a head, None where it has anything that the parser alone should decide on."""
    low = head.lower()
    length = CONTENT_LENGTH.search(low)
    if length is None or low.count(b"content-length") != 1 or any(name in low for name in UNUSUAL):
        return None
    return Head(
        target=head.split(b" ", 2)[1],
        body_bytes=int(length[1]),
        closes=CLOSE.search(low) is not None,
        plain=head.startswith(PLAIN_FIRST_BYTES),
    )


class BacklogProtocol(HttpToolsProtocol):
    """One connection. `protocol_with` makes the class that uvicorn is given."""

    backlog: ClassVar[Backlog]
    _skip_bytes = 0
    """What still comes of the body of a request that was refused."""
    _refused_s: float | None = None

    def data_received(self, data: bytes) -> None:
        """Refuse a request, or have it parsed."""
        if self._skip_bytes:
            skipped = min(self._skip_bytes, len(data))
            self._skip_bytes -= skipped
            data = data[skipped:]
            if not data:
                return
        may_refuse = self.backlog.refuses and data.startswith(FIRST_BYTES) and self._is_between_requests()
        if may_refuse and self._refuse(data):
            return
        super().data_received(data)

    def _is_between_requests(self) -> bool:
        cycle = self.cycle
        if cycle is None:
            return self.scope is None  # nothing was ever parsed here
        return cycle.response_complete and not cycle.more_body and cycle.scope is self.scope

    def _refuse(self, data: bytes) -> bool:
        """Send a refusal; False where the request is not to be refused, or not here."""
        end = data.find(HEAD_END)
        head = read_head(data[:end]) if 0 < end <= MOST_HEAD_BYTES else None
        if head is None or self.flow.write_paused:
            return False
        missing = head.body_bytes - (len(data) - end - len(HEAD_END))
        if missing < 0 or missing > MOST_SKIPPED_BYTES or (missing and head.closes):
            return False
        refusal = self.backlog.refusal(head.target)
        if refusal is None:
            return False
        self._skip_bytes = missing
        self.backlog.refused(refusal)
        self.transport.write(self._response(refusal, head))
        if head.closes:
            self.transport.close()
            return True
        self._refused_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._arm_keep_alive(self.timeout_keep_alive)
        return True

    def _response(self, refusal: Refusal, head: Head) -> bytes:
        known = refusal.responses.get(head.form)
        if known is None:
            known = refusal.responses[head.form] = self._make_response(refusal, plain=head.plain, closes=head.closes)
        return known

    def _make_response(self, refusal: Refusal, *, plain: bool, closes: bool) -> bytes:
        response = problem_response(refusal.error)
        body, media_type = bytes(response.body), PROBLEM_TYPE
        if plain:
            body, media_type = plain_error(body), "application/json"
        headers = [
            *self.server_state.default_headers,
            (b"retry-after", b"%d" % refusal.error.retry_after_s),
            (b"content-type", media_type.encode()),
            (b"content-length", b"%d" % len(body)),
            *([(b"connection", b"close")] if closes else []),
        ]
        lines = [b"HTTP/1.1 503 Service Unavailable", *(b"%s: %s" % header for header in headers)]
        return b"\r\n".join(lines) + HEAD_END + body

    def _arm_keep_alive(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(after_s, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, unless a request was refused on it meanwhile."""
        if self._refused_s is not None:
            left_s = self._refused_s + self.timeout_keep_alive - self.loop.time()
            self._refused_s = None
            if left_s > 0:
                self._arm_keep_alive(left_s)
                return
        super().timeout_keep_alive_handler()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        scope = cycle.scope
        if scope["method"] != "POST" or not scope["path"].startswith(PATHS):
            super()._start_asgi_task(cycle, app)
            return
        query = scope["query_string"]
        target = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
        begun = Begun(self.backlog, target)
        scope[BEGUN] = begun  # type: ignore[typeddict-unknown-key]
        if self.backlog.refuses and (refusal := self.backlog.refusal(target)) is not None:
            begun.refused = refusal.error
            super()._start_asgi_task(cycle, app)
        else:
            self.backlog.add(target, partial(self._begin, cycle, app, begun))

    def _begin(self, cycle: RequestResponseCycle, app: ASGI3Application, begun: Begun, waited_s: float) -> None:
        begun.waited_s = waited_s
        if cycle.disconnected:
            begun.refused = ClientDisconnect()
        super()._start_asgi_task(cycle, app)


def protocol_with(backlog: Backlog) -> type[BacklogProtocol]:
    """The protocol of a server whose requests for predictions wait in this backlog."""
    return type("Protocol", (BacklogProtocol,), {"backlog": backlog})
