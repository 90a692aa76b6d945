"""How a request that was taken directly ends when it is not answered by a prediction."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from catalog.responses import Prediction
from runtime.base import Images, Probabilities
from runtime.openvino import OpenVinoRuntime
from service.api.direct_predict import DirectPredict
from service.core.admission import Admission
from service.core.backlog import Backlog, Begun
from service.core.batch_queue import Computed
from service.core.direct_inference import DirectInference
from service.core.observation import Observation
from service.core.repository import ModelRepository
from service.core.scheduler import BatchLimits, Scheduler
from service.settings import Settings
from tests.conftest import SAMPLES, SMALL_MODELS, golden_class
from tests.made_up_model import MadeUpModel

pytestmark = pytest.mark.usefixtures("both_event_loops")
CONTENT = SAMPLES[3].file.read_bytes()
TARGET = b"/predict"


class Failing(MadeUpModel):
    """A model that can't compute."""

    def predict(self, images: Images) -> Probabilities:
        raise MemoryError(f"no room for {len(images)}")


@dataclass
class Sent:
    """A request on a connection of the test's own, and what became of it."""

    begun: Begun
    body: bytes = CONTENT
    query: bytes = b"model=sequential"
    content_type: bytes = b"image/png"
    is_gone: bool = False
    answer: "asyncio.Future[Computed] | None" = None
    status: int | None = None
    headers: dict[bytes, bytes] = field(default_factory=dict)
    document: dict[str, object] = field(default_factory=dict)
    replied: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def scope(self) -> dict[str, object]:
        return {"query_string": self.query, "headers": [(b"content-type", self.content_type)]}

    def waits(self, answer: "asyncio.Future[Computed]") -> None:
        self.answer = answer

    def reply(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        assert self.status is None
        self.status, self.headers = status, dict(headers)
        self.document = json.loads(body) if body else {}
        self.replied.set()


@dataclass
class Lane:
    """A direct lane, and what is behind it."""

    repository: ModelRepository
    admission: Admission
    backlog: Backlog
    scheduler: Scheduler
    ended: list[Observation]
    direct: DirectPredict

    def request(self, **parts: object) -> Sent:
        return Sent(Begun(self.backlog, TARGET), **parts)  # type: ignore[arg-type]

    def run(self, requests: Sequence[Sent], meanwhile: Callable[[], None] = lambda: None) -> list[bool]:
        """Begin them in one turn of an event loop, and wait until all that were taken are answered."""

        async def begin() -> list[bool]:
            taken = [self.direct.begin(request) for request in requests]
            await asyncio.sleep(0)
            meanwhile()
            async with asyncio.timeout(20):
                for was_taken, request in zip(taken, requests, strict=True):
                    if was_taken:
                        await request.replied.wait()
            return taken

        return asyncio.run(begin())


@pytest.fixture
def make_lane() -> Iterator[Callable[..., Lane]]:
    lanes: list[Lane] = []

    def make(**limits: float) -> Lane:
        repository = ModelRepository(SMALL_MODELS, OpenVinoRuntime())
        repository.load_all()
        admission = Admission(8, 2**20)
        scheduler = Scheduler(BatchLimits(**limits))  # type: ignore[arg-type]
        ended: list[Observation] = []
        direct = DirectPredict(
            DirectInference(repository, admission, scheduler, None), Settings(models=SMALL_MODELS), [ended.append]
        )
        lanes.append(Lane(repository, admission, Backlog(admission, 8), scheduler, ended, direct))
        return lanes[-1]

    yield make
    for lane in lanes:
        lane.scheduler.close()
        assert (lane.admission.pending, lane.admission.pending_bytes) == (0, 0)


@pytest.mark.parametrize("together", [1, 5])
def test_image_gets_its_class(make_lane: Callable[..., Lane], together: int) -> None:
    lane = make_lane()
    requests = [lane.request() for _ in range(together)]
    assert lane.run(requests) == [True] * together
    for request, observation in zip(requests, lane.ended, strict=True):
        assert request.status == 200
        assert Prediction.model_validate(request.document).class_id == golden_class("sequential", SAMPLES[3])
        assert request.headers[b"x-request-id"]
        assert (observation.status, observation.model, observation.error) == (200, "sequential", None)
        assert observation.computed is not None
        assert observation.total_s > 0


@pytest.mark.parametrize(
    "unusual",
    [
        {"body": b""},
        {"body": b"no image"},
        {"body": CONTENT[:-30]},
        {"body": CONTENT + b"\0" * 40_000},
        {"content_type": b"text/plain"},
        {"query": b"model=nothing"},
        {"query": b"top_k=11"},
    ],
)
def test_what_is_unusual_is_left_alone(make_lane: Callable[..., Lane], unusual: dict[str, bytes]) -> None:
    lane = make_lane()
    request = lane.request(**unusual)
    assert lane.run([request]) == [False]
    assert (request.status, request.answer, lane.ended) == (None, None, [])


@pytest.mark.parametrize(("together", "gone"), [(1, True), (1, False), (3, False)])
def test_cancelled_request_is_gone_or_cut_off_by_a_stop(
    make_lane: Callable[..., Lane], together: int, gone: bool
) -> None:
    lane = make_lane(batch_wait_s=30.0)
    requests = [lane.request(is_gone=gone) for _ in range(together)]

    def cancel() -> None:
        for request in requests:
            assert request.answer is not None
            request.answer.cancel()

    lane.run(requests, cancel)
    for request, observation in zip(requests, lane.ended, strict=True):
        assert (request.status, observation.error) == ((400, "client-gone") if gone else (503, "unavailable"))
    assert lane.scheduler.queue_rows_by_version().total() == together  # dropped when their turn comes


@pytest.mark.parametrize("together", [1, 3])
def test_failure_of_the_runtime_is_a_problem_document(
    make_lane: Callable[..., Lane], together: int, caplog: pytest.LogCaptureFixture
) -> None:
    lane = make_lane()
    version = lane.repository.find("sequential")
    version.model, version.row_s = Failing(), 1e-5
    requests = [lane.request() for _ in range(together)]
    assert lane.run(requests) == [True] * together
    assert [request.status for request in requests] == [500] * together
    assert "MemoryError" in str(requests[0].document["detail"])
    assert "no room for 1" in caplog.text


def test_full_queue_is_refused_and_what_comes_next_before_it_begins(make_lane: Callable[..., Lane]) -> None:
    lane = make_lane(max_queue_rows_per_model=2, batch_wait_s=0.2)
    requests = [lane.request() for _ in range(4)]
    refused: list[bool] = []
    assert lane.run(requests, lambda: refused.append(lane.backlog.refusal(TARGET) is not None)) == [True] * 4
    assert sorted(request.status or 0 for request in requests) == [200, 200, 503, 503]
    assert {request.headers.get(b"retry-after") for request in requests if request.status == 503} == {b"1"}
    assert refused == [True]


def test_fault_of_the_direct_way_is_logged_and_left_to_the_usual_one(
    make_lane: Callable[..., Lane], caplog: pytest.LogCaptureFixture
) -> None:
    lane = make_lane()
    request = lane.request(query=None)
    assert lane.run([request]) == [False]
    assert (request.status, lane.ended) == (None, [])
    assert "a request was not taken directly" in caplog.text


def test_no_slot_is_left_to_the_usual_way(make_lane: Callable[..., Lane]) -> None:
    lane = make_lane(batch_wait_s=0.2)
    requests = [lane.request() for _ in range(10)]
    assert lane.run(requests) == [True] * 8 + [False] * 2


def test_version_is_kept_until_its_request_is_answered(make_lane: Callable[..., Lane]) -> None:
    lane = make_lane(batch_wait_s=0.2)
    version = lane.repository.find("sequential")
    used: list[bool] = []
    lane.run([lane.request(), lane.request()], lambda: used.append(not version.wait_until_unused(0)))
    assert used == [True]
    assert version.wait_until_unused(1)
    assert np.isfinite(lane.ended[0].total_s)
