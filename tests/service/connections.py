"""One connection of the service's HTTP protocol, fed with bytes; the test controls its transport and clock."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from service.app import open_backlog
from service.http.middleware import Application, HotRoutes
from service.http.protocol import BacklogProtocol, protocol_with
from service.http.reading import ConnectionLimits
from service.inference.admission import Backlog
from service.settings import Settings
from service.telemetry.trace import Trace

LIMITS = ConnectionLimits()
GET: Final = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED: Final = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
HIDDEN: Final = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"


class FakeTransport:
    """Stores what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.is_reading = True
        self.closed = False
        self.aborted = False
        self.had_eof = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"sockname": ("127.0.0.1", 8000), "peername": ("127.0.0.1", 50000)}.get(name, default)

    def write(self, data: "bytes | bytearray | memoryview[int]") -> None:
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.had_eof = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True


class Timer:
    """A callback that is due at a time."""

    def __init__(self, due_s: float, run: Callable[[], object]) -> None:
        self.due_s = due_s
        self.run = run
        self.is_cancelled = False

    def cancel(self) -> None:
        """Cancel the callback."""
        self.is_cancelled = True
        self.run = lambda: None


class FakeClock:
    """An event loop whose clock a test controls; its tasks run on the real event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._now_s = 100.0
        self._timers: list[Timer] = []

    def time(self) -> float:
        return self._now_s

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> Timer:
        timer = Timer(self._now_s + delay_s, partial(callback, *args))
        self._timers.append(timer)
        return timer

    def pass_by(self, duration_s: float) -> None:
        """Advance the clock and run the due callbacks, in order."""
        end_s = self._now_s + duration_s
        while due := [timer for timer in self._timers if timer.due_s <= end_s]:
            first = min(due, key=lambda timer: timer.due_s)
            self._timers.remove(first)
            self._now_s = max(self._now_s, first.due_s)
            first.run()
        self._now_s = end_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


@dataclass
class Connection:
    """A connection to an application that records its requests and echoes them."""

    limits: ConnectionLimits = LIMITS
    app: ASGIApp | None = None
    settings: Settings = field(default_factory=Settings)
    routes: HotRoutes = field(default_factory=lambda: HotRoutes(Settings()))
    shared_backlog: Backlog | None = None
    beside: "Connection | None" = None
    """Another connection to the same server."""

    def __post_init__(self) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        self.headers: list[dict[bytes, bytes]] = []
        self.gone = 0
        self.noted: list[Trace] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.transport = FakeTransport()
        self.clock = FakeClock()
        self.backlog = self.shared_backlog or open_backlog(self.settings)
        state = ServerState()
        app = self.app or self._answer
        application = Application(app, self.routes, self.settings, observers=[self.noted.append])
        protocol = (
            type(self.beside.protocol) if self.beside else protocol_with(self.backlog, application, limits=self.limits)
        )
        config = uvicorn.Config(app, http=protocol, log_config=None, interface="asgi3")
        self.protocol: BacklogProtocol = protocol(config, state, {}, self.clock)  # type: ignore[arg-type]
        self.protocol.connection_made(cast("asyncio.Transport", self.transport))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            body += message["body"]
            more = message["more_body"]
        self.asked.append((scope["method"], scope["path"], body))
        self.headers.append(dict(scope["headers"]))
        await self.may_answer.wait()
        content = scope["path"].encode()
        headers = [(b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def send(self, *parts: bytes) -> None:
        """Let the protocol receive each part."""
        for part in parts:
            if self.transport.closed:
                return
            self.protocol.data_received(part)
            await settle()

    async def send_bytewise(self, data: bytes) -> None:
        """Let the protocol receive each byte separately."""
        await self.send(*(data[place : place + 1] for place in range(len(data))))

    async def end(self) -> None:
        """Let the client shut down its sending side."""
        if not self.protocol.eof_received():
            self.transport.close()
        await settle()

    @property
    def statuses(self) -> list[int]:
        """Statuses of the answers written so far."""
        return [int(part[:3]) for part in self.transport.written.split(b"HTTP/1.1 ")[1:]]

    @property
    def problem(self) -> dict[str, Any]:
        """The document of the last answer."""
        document: dict[str, Any] = json.loads(self.transport.written.rpartition(b"\r\n\r\n")[2])
        return document

    @property
    def is_over(self) -> bool:
        """True if nothing that the client sends can be answered any more."""
        return self.transport.closed or self.transport.had_eof


def post(body: bytes, *headers: bytes, path: bytes = b"/p") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *headers, b"", b""]
    return b"\r\n".join(lines) + body


def get(*headers: bytes) -> bytes:
    return b"\r\n".join([b"GET /a HTTP/1.1", *headers, b"", b""])


async def settle() -> None:
    """Let tasks run until they wait for something else."""
    for _ in range(20):
        await asyncio.sleep(0)
