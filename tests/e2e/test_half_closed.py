"""Connections that clients close half or not at all, over real sockets: behaviour that depends on the kernel."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from service.app import open_backlog
from service.http.middleware import Application, HotRoutes
from service.http.protocol import protocol_with
from service.http.reading import ConnectionLimits
from service.settings import Settings
from tests.service.connections import GET

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def listening(app: ASGIApp, limits: ConnectionLimits | None = None) -> AsyncIterator[int]:
    """Serve an application on a port of this machine, on the event loop that runs."""
    settings = Settings()
    protocol = protocol_with(open_backlog(settings), Application(app, HotRoutes(Settings()), settings), limits=limits)
    config = uvicorn.Config(app, http=protocol, log_config=None, interface="asgi3")
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        await asyncio.gather(*state.tasks, return_exceptions=True)


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
