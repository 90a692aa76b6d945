"""Small requests that have arrived completely: answered by the protocol without a task, on both event loops."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from starlette.types import ASGIApp

from cifar10_serving.runtimes.base import Images, Probabilities
from cifar10_serving.schemas import Prediction
from service.api.predict import predict_routes
from service.http.middleware import Application, HotRoutes
from service.images.decoding import Decoder
from service.inference.admission import MAX_STARTS_PER_TICK, Admission, Backlog
from service.inference.cache import PredictionCache
from service.inference.pipeline import Pipeline
from service.inference.scheduler import BatchLimits, Scheduler
from service.registry.repository import ModelRepository
from service.settings import Settings
from service.telemetry.trace import Trace
from tests.conftest import SAMPLES, SMALL_MODELS, golden_class
from tests.fakes import FakeModel, FakeRuntime
from tests.service.connections import Connection, settle
from tests.waiting import until

pytestmark = pytest.mark.anyio
CONTENT = SAMPLES[3].file.read_bytes()
TARGET = b"/predict?model=sequential"
SLOTS = 8


class Failing(FakeModel):
    """A model that can't compute."""

    def predict(self, images: Images) -> Probabilities:
        raise RuntimeError(f"no answer for {len(images)}")


class OutOfMemory(FakeModel):
    """A model for which there is too little memory."""

    def predict(self, images: Images) -> Probabilities:
        raise MemoryError(f"no room for {len(images)}")


def request(target: bytes = TARGET, content_type: bytes = b"image/png", body: bytes = CONTENT) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (target, content_type, len(body)) + body


@dataclass
class Plane:
    """A data plane behind the route `/predict`."""

    repository: ModelRepository
    admission: Admission
    backlog: Backlog
    scheduler: Scheduler
    routes: HotRoutes

    def connect(self, app: ASGIApp | None = None) -> Connection:
        """Return a connection; requests that the protocol doesn't answer by itself go to this application."""
        return Connection(app=app or _no_application, routes=self.routes, shared_backlog=self.backlog)

    async def ask(
        self,
        requests: Sequence[bytes],
        meanwhile: Callable[[list[Connection]], None] = lambda _: None,
    ) -> list[Connection]:
        """Send each on a connection of its own, all in one tick of an event loop, and wait for the answers."""
        connections = [self.connect() for _ in requests]
        for connection, content in zip(connections, requests, strict=True):
            connection.protocol.data_received(content)
        await asyncio.sleep(0)
        meanwhile(connections)
        await until(lambda: all(connection.noted for connection in connections))
        await settle()
        return connections


async def _no_application(scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError(f"{scope['path']} went the long way")


@pytest.fixture
def make_plane() -> Iterator[Callable[..., Plane]]:
    planes: list[Plane] = []

    def make(
        *,
        cache: PredictionCache | None = None,
        slots: int = SLOTS,
        clock: Callable[[], float] = time.monotonic,
        **limits: float,
    ) -> Plane:
        repository = ModelRepository(SMALL_MODELS, FakeRuntime())
        repository.load_all()
        admission = Admission(slots, 2**20, clock)
        scheduler = Scheduler(BatchLimits(**limits))  # type: ignore[arg-type]
        decoder = Decoder(admission, max_image_pixels=10_000)
        pipeline = Pipeline(repository, admission, decoder, scheduler, cache=cache)
        routes = HotRoutes(Settings())
        predict_routes(pipeline, routes)
        planes.append(Plane(repository, admission, Backlog(admission, 64), scheduler, routes))
        return planes[-1]

    yield make
    for plane in planes:
        plane.scheduler.close()
        assert (plane.admission.pending, plane.admission.pending_bytes) == (0, 0)


def document(connection: Connection) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(connection.transport.written.partition(b"\r\n\r\n")[2])
    return content


@pytest.mark.parametrize("together", [1, 5])
async def test_image_gets_its_class(make_plane: Callable[..., Plane], together: int) -> None:
    for connection in await make_plane().ask([request()] * together):
        assert connection.statuses == [200]
        assert Prediction.model_validate(document(connection)).class_id == golden_class("sequential", SAMPLES[3])
        for header in (b"x-request-id: ", b"x-content-type-options: nosniff"):
            assert header in connection.transport.written
        (trace,) = connection.noted
        assert (trace.status, trace.model, trace.error, trace.is_inference) == (200, "sequential", None, True)
        assert trace.computed is not None
        assert trace.total_s > 0


@pytest.mark.parametrize(
    ("unusual", "status", "kind"),
    [
        ({"body": b""}, 400, "invalid-request"),
        ({"body": b"no image"}, 400, "undecodable-image"),
        ({"body": CONTENT[:-30]}, 400, "undecodable-image"),
        ({"content_type": b"text/plain"}, 415, "unsupported-type"),
        ({"target": b"/predict?model=nothing"}, 404, "not-found"),
        ({"target": b"/predict?top_k=11"}, 422, "invalid-parameter"),
    ],
)
async def test_errors_are_rendered_and_counted(
    make_plane: Callable[..., Plane], unusual: dict[str, bytes], status: int, kind: str
) -> None:
    (connection,) = await make_plane().ask([request(**unusual)])
    assert connection.statuses == [status]
    assert document(connection)["type"].endswith(kind)
    assert [(trace.status, trace.error, trace.is_inference) for trace in connection.noted] == [(status, kind, True)]


@pytest.mark.parametrize("together", [1, 3])
async def test_client_that_goes_is_noted_and_nothing_is_computed_for_it(
    make_plane: Callable[..., Plane], together: int
) -> None:
    plane = make_plane(max_batch_delay_s=30.0)

    def leave(connections: list[Connection]) -> None:
        for connection in connections:
            connection.protocol.connection_lost(None)

    for connection in await plane.ask([request()] * together, leave):
        assert connection.transport.written == b""
        assert [(trace.status, trace.error) for trace in connection.noted] == [(400, "client-gone")]
    assert plane.scheduler.queue_rows_by_version().total() <= together  # dropped when their turn comes


async def test_stop_without_time_left_answers_503_and_closes(make_plane: Callable[..., Plane]) -> None:
    def cancel(connections: list[Connection]) -> None:
        for connection in connections:
            connection.protocol.shutdown()
            for task in connection.protocol.tasks:
                task.cancel()

    closing = request(content_type=b"image/png\r\nConnection: close")
    for connection in await make_plane(max_batch_delay_s=30.0).ask([request(), closing], cancel):
        assert connection.statuses == [503]
        assert b"retry-after: " in connection.transport.written
        assert connection.transport.written.count(b"connection: close") == 1


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize(("model", "status"), [(Failing(), 500), (OutOfMemory(), 503)])
async def test_failure_of_the_runtime_is_a_problem_document(
    make_plane: Callable[..., Plane], together: int, model: FakeModel, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    plane = make_plane()
    version = plane.repository.find("sequential")
    version.model, version.row_s = model, 1e-5
    for connection in await plane.ask([request()] * together):
        assert connection.statuses == [status]
        assert "no answer" not in str(document(connection))
    if status == 500:
        assert "no answer for 1" in caplog.text


async def test_full_queue_rejects_and_what_comes_next_before_it_is_parsed(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(max_queue_size_per_model=2, max_batch_delay_s=0.2)
    rejected: list[bool] = []
    connections = await plane.ask(
        [request()] * 4, lambda _: rejected.append(plane.backlog.rejection(TARGET) is not None)
    )
    assert sorted(status for connection in connections for status in connection.statuses) == [200, 200, 503, 503]
    for connection in connections:
        assert (b"retry-after: 1" in connection.transport.written) == (connection.statuses == [503])
    assert rejected == [True]


async def test_version_is_kept_until_its_request_is_answered(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(max_batch_delay_s=0.2)
    version = plane.repository.find("sequential")
    used: list[bool] = []
    first, _ = await plane.ask([request()] * 2, lambda _: used.append(not version.wait_until_unused(0)))
    assert used == [True]
    assert version.wait_until_unused(1)
    assert np.isfinite(first.noted[0].total_s)


async def test_cached_answers_take_the_same_path(make_plane: Callable[..., Plane]) -> None:
    cache = PredictionCache(1_000_000)
    plane = make_plane(cache=cache)

    (first,) = await plane.ask([request()])
    (second,) = await plane.ask([request()])
    assert document(first) == document(second)
    assert (cache.hits, cache.misses) == (1, 1)


async def test_settings_limit_the_time_of_a_request(make_plane: Callable[..., Plane]) -> None:
    assert Settings().request_timeout_s > 0
    late = request().replace(b"Host: x", b"Host: x\r\nX-Request-Timeout-Ms: 20")
    (connection,) = await make_plane(max_batch_delay_s=30.0).ask([late])
    assert connection.statuses == [504]
    assert [trace.error for trace in connection.noted] == ["deadline-passed"]


class TickingClock:
    """A clock that has gone on by a quarter of a second whenever somebody looks at it."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        self._now_s += 0.25
        return self._now_s


async def test_time_in_the_backlog_counts_for_the_deadline(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(slots=64, clock=TickingClock())
    late = request().replace(b"Host: x", b"Host: x\r\nX-Request-Timeout-Ms: 200")
    *answered, waited = await plane.ask([request()] * MAX_STARTS_PER_TICK + [late])
    assert {status for connection in answered for status in connection.statuses} == {200}
    assert waited.statuses == [504]
    assert document(waited)["detail"] == "no answer within 0.2 s"


class Counting(FakeModel):
    """A model that counts what it computes."""

    def __init__(self) -> None:
        self.rows = 0

    def predict(self, images: Images) -> Probabilities:
        self.rows += len(images)
        return np.full((len(images), 10), 0.1, np.float32)


async def test_client_that_goes_while_its_request_is_in_the_backlog_costs_nothing(
    make_plane: Callable[..., Plane],
) -> None:
    plane, noted = make_plane(slots=64), list[Trace]()
    model = plane.repository.find("sequential").model = Counting()
    leaving = plane.connect(Application(_no_application, plane.routes, Settings(), observers=[noted.append]))
    staying = [plane.connect() for _ in range(MAX_STARTS_PER_TICK)]
    for connection in (*staying, leaving):
        connection.protocol.data_received(request())
    leaving.protocol.connection_lost(None)
    await until(lambda: noted and all(connection.noted for connection in staying))
    assert leaving.transport.written == b""
    assert [(trace.status, trace.error) for trace in noted] == [(400, "client-gone")]
    assert model.rows == MAX_STARTS_PER_TICK
