"""The service's HTTP protocol in Ray's HTTP server.

Each replica answers in a uvicorn of Ray's, on a port of its own, to which the HAProxy of every node connects. uvicorn
finds its protocol by name, `uvicorn.protocols.http.auto:AutoHTTPProtocol`; `install` puts the service's protocol there
before that server starts. Requests then take the same path as in the service alone: small ones are answered in one
write, and rejected ones are not parsed. Only Ray's own routes, below `/-/`, go to Ray's application.

Ray does not promise that it uses uvicorn so. `verify` connects to the replica's port and looks whether the protocol was
used. If not, Ray's own path still answers: every request then passes through Ray's code, which takes several times the
processor time.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http import auto
from uvicorn.server import ServerState

from service.app import Service
from service.errors import SettingsError
from service.http.exchange import REQUEST_ID
from service.http.protocol import BacklogProtocol
from service.process.server import LAST_REQUEST_S

RAY_PATHS: Final = "/-/"
"""Ray's health check, for HAProxy, and its list of routes."""
LISTENING: Final = "0A"
PATIENCE_S: Final = 60.0
"""Time after the start of the application in which Ray's server must have opened its port."""
LOOK_EVERY_S: Final = 0.1
ANSWER_S: Final = 2.0

Address = tuple[str, int]

logger = logging.getLogger(__name__)


class ReplicaProtocol(BacklogProtocol):
    """The protocol for a server that closes no idle connections when it shuts down."""

    def shutdown(self) -> None:
        """Begin the service's shutdown, and close the connection when it is idle."""
        self.stop.begin()
        super().shutdown()
        self.loop.call_later(LAST_REQUEST_S, self._close_when_idle)

    def _close_when_idle(self) -> None:
        self.close_if_idle()
        if not self.transport.is_closing():
            self.loop.call_later(LOOK_EVERY_S, self._close_when_idle)


class Connections:
    """Creates the protocol of each connection; uvicorn calls it instead of its own class.

    Args:
        protocol: the service's protocol.
        application: the service, which answers all paths but Ray's.
        otherwise: uvicorn's class, for a server in another event loop, with which the service can't share its data.
        loop: the event loop of the service.
    """

    def __init__(
        self,
        protocol: type[BacklogProtocol],
        application: ASGIApp,
        otherwise: "Callable[..., asyncio.Protocol]",
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._protocol: type[BacklogProtocol] = type("Protocol", (ReplicaProtocol, protocol), {})
        self._application = application
        self._otherwise = otherwise
        self._loop = loop
        self.is_used = asyncio.Event()
        """Set once there was a connection with the service's protocol."""

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        if asyncio.get_running_loop() is not self._loop:
            return self._otherwise(config=config, server_state=server_state, app_state=app_state, _loop=_loop)
        if not self.is_used.is_set():
            # As in the service alone.
            config.encoded_headers = _without_server(config.encoded_headers)
            server_state.default_headers = _without_server(server_state.default_headers)
            self.is_used.set()
        connection = self._protocol(config=config, server_state=server_state, app_state=app_state, _loop=_loop)
        connection.app = self._route(connection.app)
        return connection

    def _route(self, ray: Any) -> Any:
        async def route(scope: Scope, receive: Receive, send: Send) -> None:
            is_ours = scope["type"] != "http" or not scope["path"].startswith(RAY_PATHS)
            await (self._application if is_ours else ray)(scope, receive, send)

        return route


class RayApplication:
    """The application as Ray's server calls it: for its lifespan, and for requests if the protocol isn't in use.

    Args:
        service: the service.
        connections: what was installed; None if nothing could be.
    """

    def __init__(self, service: Service, connections: Connections | None) -> None:
        self.service = service
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the lifespan, or answer a request without the header that Ray adds."""
        if scope["type"] == "lifespan":
            async with _verifying(self._connections):
                await self.service.application(scope, receive, send)
            return

        async def send_without_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [header for header in message["headers"] if header[0] != REQUEST_ID]
                message = {**message, "headers": headers}
            await send(message)

        await self.service.application(scope, receive, send_without_id)


def install(service: Service) -> Connections | None:
    """Let uvicorn use the service's protocol in this process from now on; return None, and warn, if it can't.

    Call it in the service's event loop.
    """
    try:
        protocol = service.http_protocol()
    except SettingsError as error:
        _warn(str(error))
        return None
    if protocol == "auto":
        _warn("httptools is not installed")
        return None
    connections = Connections(protocol, service.application, auto.AutoHTTPProtocol, asyncio.get_running_loop())
    auto.AutoHTTPProtocol = connections  # type: ignore[assignment]
    return connections


async def verify(connections: Connections, addresses: Callable[[], Iterable[Address]]) -> bool:
    """Connect to this process's ports until one of them uses the protocol; return False, and warn, if none does.

    Args:
        addresses: returns the addresses that may be those of Ray's HTTP server.
    """
    for _ in range(round(PATIENCE_S / LOOK_EVERY_S)):
        for address in addresses():
            if await _is_used(connections, address):
                logger.info("Ray's HTTP server on port %d uses the service's protocol", address[1])
                return True
        await asyncio.sleep(LOOK_EVERY_S)
    _warn("Ray's HTTP server doesn't use it")
    return False


def listening_addresses(root: Path = Path("/proc/self")) -> list[Address]:
    """Return the IPv4 addresses on which this process listens, with this machine's own address for all of them."""
    sockets = set()
    for descriptor in (root / "fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            sockets.add(str(descriptor.readlink()))
    found = []
    for line in (root / "net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTENING and f"socket:[{fields[9]}]" in sockets:
            host, port = fields[1].split(":")
            octets = bytes.fromhex(host)[::-1]  # in the byte order of the machine
            found.append((".".join(map(str, octets)) if any(octets) else "127.0.0.1", int(port, 16)))
    return found


async def _is_used(connections: Connections, address: Address) -> bool:
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(*address)
            try:
                await connections.is_used.wait()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return True


def _without_server(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [header for header in headers if header[0] != b"server"]


@asynccontextmanager
async def _verifying(connections: Connections | None) -> AsyncIterator[None]:
    if connections is None:
        yield
        return
    verifying = asyncio.create_task(verify(connections, listening_addresses))
    yield
    verifying.cancel()


def _warn(reason: str) -> None:
    logger.warning(
        "requests pass through Ray's HTTP server, which takes several times the processor time, because the "
        "service's protocol can't be used there: %s; see docs/cluster.md",
        reason,
    )
