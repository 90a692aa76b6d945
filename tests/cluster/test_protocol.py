"""The service's protocol in a server that is run as Ray runs it, without Ray."""

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest
import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http import auto

from cluster import protocol
from cluster.protocol import Connections, RayApplication, install, listening_addresses, verify
from service.app import Service, open_service
from service.errors import SettingsError
from service.process.lifecycle import Group
from service.settings import Settings
from tests.conftest import MODELS, SAMPLES
from tests.fakes import FakeRuntime
from tests.waiting import until

pytestmark = pytest.mark.anyio
IMAGE = SAMPLES[0].file.read_bytes()
PNG = {"Content-Type": "image/png"}


@dataclass
class Replica:
    """A service in a server like Ray's."""

    service: Service
    connections: Connections | None
    server: uvicorn.Server
    port: int
    client: httpx.AsyncClient
    serving: "asyncio.Task[None]"


@pytest.fixture(autouse=True)
def uvicorn_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a test installs."""
    monkeypatch.setattr(auto, "AutoHTTPProtocol", auto.AutoHTTPProtocol)


@asynccontextmanager
async def replica(*, installs: bool = True) -> AsyncIterator[Replica]:
    service = open_service(Settings(models=MODELS), runtime=FakeRuntime(), group=Group.REPLICAS)
    connections = install(service) if installs else None
    application = RayApplication(service, connections)
    lifespan = LifespanOn(uvicorn.Config(application, lifespan="on", log_config=None))
    await lifespan.startup()

    async def ray(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("X-Request-ID", "of-ray")
            await send(message)

        if scope["path"].startswith("/-/"):
            await send_with_id({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"success"})
        else:
            await application(scope, receive, send_with_id)

    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(lambda: ray, factory=True, lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    await until(lambda: server.started)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        yield Replica(service, connections, server, port, client, serving)
    server.should_exit = True
    await serving
    await lifespan.shutdown()


async def test_requests_take_the_path_of_the_service_alone() -> None:
    async with replica() as running:
        answers = [await running.client.post("/predict", content=IMAGE, headers=PNG) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert [len(answer.headers.get_list("x-request-id")) for answer in answers] == [1, 1]
        assert "of-ray" not in answers[0].headers["x-request-id"]
        page = await running.client.get("/")
        assert (page.status_code, page.headers.get_list("x-request-id") == ["of-ray"]) == (200, False)
        assert "server" not in answers[0].headers


async def test_ray_answers_its_own_routes() -> None:
    async with replica() as running:
        health = await running.client.get("/-/healthz")
        assert (health.text, health.headers["x-request-id"]) == ("success", "of-ray")


async def test_without_the_protocol_there_is_one_request_id_too() -> None:
    async with replica(installs=False) as running:
        answer = await running.client.post("/predict", content=IMAGE, headers=PNG | {"X-Request-ID": "mine"})
        assert (answer.status_code, answer.headers.get_list("x-request-id")) == (200, ["of-ray"])


async def test_shutdown_answers_what_is_on_its_way_and_closes_idle_connections() -> None:
    async with replica() as running:
        await running.client.get("/livez")
        running.server.should_exit = True
        await until(lambda: running.service.stop.is_requested)
        answer = await running.client.post("/predict", content=IMAGE, headers=PNG)  # on the open connection
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        await running.serving

    async with replica() as running:
        await running.client.get("/livez")
        running.server.should_exit = True
        await running.serving  # although the client keeps its connection open


async def test_verification_sees_that_the_protocol_is_used(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cluster.protocol")
    async with replica() as running:
        await until(lambda: "uses the service's protocol" in caplog.text)
        assert f"port {running.port}" in caplog.text
        assert ("127.0.0.1", running.port) in listening_addresses()


async def test_verification_warns_if_the_server_uses_another_protocol(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "PATIENCE_S", 0.3)
    monkeypatch.setattr(protocol, "ANSWER_S", 0.1)
    async with replica(installs=False) as running:
        unused = install(running.service)
        assert unused is not None
        assert not await verify(unused, lambda: [("127.0.0.1", running.port), ("127.0.0.1", 1)])
        assert "requests pass through Ray's HTTP server" in caplog.text
        assert (await running.client.get("/livez")).status_code == 200


async def test_server_in_another_event_loop_gets_its_own_protocol() -> None:
    service = open_service(Settings(models=MODELS), runtime=FakeRuntime(), group=Group.REPLICAS)
    connections = install(service)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"another"})

    server = uvicorn.Server(uvicorn.Config(answer, lifespan="off", log_config=None))
    sock = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: server.run(sockets=[sock]))
    thread.start()
    await until(lambda: server.started)
    async with httpx.AsyncClient() as client:
        found = await client.get(f"http://127.0.0.1:{sock.getsockname()[1]}/")
    server.should_exit = True
    await asyncio.to_thread(thread.join)
    assert connections is not None
    assert (found.text, connections.is_used.is_set()) == ("another", False)


async def test_unknown_uvicorn_is_a_warning(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def differs(_service: Service) -> None:
        raise SettingsError("uvicorn 9 has no on_body in its HTTP protocol")

    monkeypatch.setattr(Service, "http_protocol", differs)
    async with replica() as running:
        assert running.connections is None
        assert "uvicorn 9 has no on_body" in caplog.text
        assert (await running.client.post("/predict", content=IMAGE, headers=PNG)).status_code == 200


def test_listening_addresses_are_those_of_this_process(tmp_path: Path) -> None:
    (tmp_path / "fd").mkdir()
    (tmp_path / "net").mkdir()
    for number, target in enumerate(("socket:[71]", "socket:[72]", "socket:[73]", "/dev/null")):
        (tmp_path / "fd" / str(number)).symlink_to(target)
    line = "   0: {}:7530 00000000:0000 {} 00000000:00000000 00:00000000 00000000     0        0 {} 1 0"
    rows = [("00000000", "0A", 71), ("0200000A", "0A", 72), ("00000000", "01", 73), ("00000000", "0A", 99)]
    lines = ["  sl  local_address rem_address   st", *(line.format(*row) for row in rows)]
    (tmp_path / "net/tcp").write_text("\n".join(lines) + "\n")
    assert listening_addresses(tmp_path) == [("127.0.0.1", 30000), ("10.0.0.2", 30000)]
