import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.runtimes.base import Images, Probabilities
from cifar10_serving.schemas import Prediction
from service.errors import DeadlineError, RequestError, TooLargeError, UnavailableError, UndecodableError
from service.images.decoding import Decoder, DecodeThreads
from service.inference.admission import Admission
from service.inference.cache import PredictionCache
from service.inference.pipeline import Deadline, Inferred, Pipeline, name_classes, prediction_document, top_classes
from service.inference.scheduler import BatchLimits, Scheduler
from service.registry.repository import ModelRepository
from service.registry.version import ModelVersion
from service.telemetry.trace import Trace
from tests.conftest import MODELS, SAMPLES, SMALL_MODELS, golden_class
from tests.fakes import FakeModel, FakeRuntime
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.anyio


def version() -> ModelVersion:
    entry = ModelVersion("sequential", 1, Path(), ())
    entry.metadata = read_metadata(version_folder(MODELS, "sequential", 1))
    return entry


@pytest.mark.parametrize("top_k", [1, 3, 10])
def test_json_is_what_pydantic_would_write(top_k: int) -> None:
    random = np.random.default_rng(3)
    rows = [*random.dirichlet(np.full(10, 0.1), 200), np.eye(10)[4], np.full(10, 0.1), np.linspace(-1e-7, 1 + 1e-7, 10)]
    entry = version()
    for row in np.asarray(rows, np.float32):
        expected = name_classes(entry, row, top_k)
        written = orjson.dumps(prediction_document(entry, row, top_k))
        assert Prediction.model_validate_json(written) == expected
        assert list(expected.model_dump()) == list(Prediction.model_validate_json(written).model_dump())


def test_classes_have_the_labels_of_the_version() -> None:
    entry = version()
    entry.labels = ("healthy", "rust", "scab")
    found = name_classes(entry, np.asarray([0.1, 0.7, 0.2], np.float32), top_k=3)
    assert (found.label, found.class_id) == ("rust", 1)
    assert [known.label for known in found.top] == ["rust", "scab", "healthy"]


def test_ties_go_to_the_lower_class_and_rounding_is_put_back() -> None:
    row = np.asarray([0.25, 1.0000001, 0.25, -1e-9, 0, 0, 0, 0, 0, 0], np.float32)
    assert top_classes(row, 3) == [(1, 1.0), (0, 0.25), (2, 0.25)]
    assert top_classes(row, 10)[-1] == (3, 0.0)


@pytest.mark.parametrize("classes", [2, 10, 64, 65, 10_000])
def test_so_many_classes_are_ordered_alike(classes: int) -> None:
    row = np.random.default_rng(classes).integers(0, 50, classes).astype(np.float32) / np.float32(64)
    order = sorted(range(classes), key=lambda index: (-row[index], index))[:5]
    assert top_classes(row, 5) == [(index, float(row[index])) for index in order]


class HeldModel(FakeModel):
    """A model that answers only once it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.rows = 0

    def predict(self, images: Images) -> Probabilities:
        self.rows += len(images)
        assert self.release.wait(PATIENCE_S)
        return np.full((len(images), 10), 0.1, np.float32)


@pytest.fixture
def repository() -> ModelRepository:
    repository = ModelRepository(SMALL_MODELS, FakeRuntime())
    repository.load_all()
    return repository


@pytest.fixture
def held(repository: ModelRepository) -> Iterator[HeldModel]:
    model = HeldModel()
    version = repository.find("sequential")
    version.model, version.row_s = model, 1.0
    yield model
    model.release.set()


@dataclass(frozen=True)
class Request:
    """A request as the pipeline sees it."""

    trace: Trace = field(default_factory=Trace)
    ticket: None = None


def data_plane(
    repository: ModelRepository, *, slots: int = 64, cache: PredictionCache | None = None
) -> tuple[Pipeline, Admission]:
    admission = Admission(slots, 2**30)
    decoder = Decoder(admission, max_image_pixels=10_000)
    return Pipeline(repository, admission, decoder, Scheduler(BatchLimits()), cache=cache), admission


async def predict(
    pipeline: Pipeline, body: bytes, *, model: str | None = None, top_k: int, timeout_s: float = PATIENCE_S
) -> Prediction:
    """Call the pipeline as a handler does."""
    request = Request()
    with pipeline.admit(request):
        inferred = await pipeline.infer([body], request.trace, Deadline.after(timeout_s), model=model)
        probabilities = inferred.require_all(name_index=False).probabilities[0]
    return name_classes(inferred.version, probabilities, top_k)


def content(index: int = 0) -> bytes:
    return Path(SAMPLES[index].file).read_bytes()


async def test_many_requests_at_once_each_get_their_own_answer(repository: ModelRepository) -> None:
    pipeline, admission = data_plane(repository)

    async def ask_all() -> list[int]:
        requests = [predict(pipeline, content(index % 10), model="functional", top_k=1) for index in range(60)]
        return [prediction.class_id for prediction in await asyncio.gather(*requests)]

    expected = [golden_class("functional", SAMPLES[index % 10]) for index in range(60)]
    assert await ask_all() == expected
    pipeline.close()
    assert admission.pending == 0


async def test_long_file_with_few_pixels_does_not_hold_up_the_event_loop(repository: ModelRepository) -> None:
    class NotedThreads(DecodeThreads):
        submitted = 0

        def submit(self, *args: Any, **kwargs: Any) -> Any:
            self.submitted += 1
            return super().submit(*args, **kwargs)

    admission, threads = Admission(8, 2**30), NotedThreads(threads=1, max_decode_bytes=2**28)
    decoder = Decoder(admission, max_image_pixels=10_000, threads=threads)
    pipeline = Pipeline(repository, admission, decoder, Scheduler(BatchLimits()))
    stream = BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "JPEG")
    empty_comment = b"\xff\xfe\x00\x02"
    slow = stream.getvalue()[:2] + empty_comment * 1_000_000 + stream.getvalue()[2:]  # rejected once it is read
    await predict(pipeline, content(), top_k=1)
    assert threads.submitted == 0
    with pytest.raises(TooLargeError):
        await predict(pipeline, slow, top_k=1)
    assert threads.submitted == 1
    pipeline.close()


async def test_one_bad_image_harms_no_other(repository: ModelRepository) -> None:
    pipeline, admission = data_plane(repository)

    async def ask_all() -> list[object]:
        bodies = [content(1), b"no image", content(2)]
        return await asyncio.gather(*(predict(pipeline, body, top_k=1) for body in bodies), return_exceptions=True)

    first, second, third = await ask_all()
    assert isinstance(second, UndecodableError)
    assert not isinstance(first, BaseException)
    assert not isinstance(third, BaseException)
    assert admission.pending == 0


async def test_full_service_answers_at_once_and_takes_requests_again_later(
    repository: ModelRepository, held: HeldModel
) -> None:
    pipeline, admission = data_plane(repository, slots=2)
    accepted = [asyncio.create_task(predict(pipeline, content(), model="sequential", top_k=1)) for _ in range(2)]
    await until(lambda: admission.pending == 2)
    with pytest.raises(UnavailableError):  # though nothing is computed
        await predict(pipeline, content(), model="sequential", top_k=1)
    held.release.set()
    assert [prediction.confidence for prediction in await asyncio.gather(*accepted)] == [pytest.approx(0.1)] * 2
    await predict(pipeline, content(), model="sequential", top_k=1)


async def test_deadline_is_an_error_and_what_had_not_started_is_never_computed(
    repository: ModelRepository, held: HeldModel
) -> None:
    pipeline, admission = data_plane(repository)
    requests = [predict(pipeline, content(), model="sequential", top_k=1, timeout_s=0.1) for _ in range(40)]
    for result in await asyncio.gather(*requests, return_exceptions=True):
        assert isinstance(result, DeadlineError)
        assert "no answer within 0.1 s" in str(result)
    assert admission.pending == 0
    started_rows = held.rows
    assert started_rows < 40
    later = asyncio.create_task(predict(pipeline, content(), model="sequential", top_k=1))
    await asyncio.sleep(0.1)
    assert held.rows == started_rows  # what has started keeps the runtime until it returns
    held.release.set()
    assert (await later).confidence == pytest.approx(0.1)
    assert held.rows == started_rows + 1


async def test_cancelled_request_is_never_computed(repository: ModelRepository, held: HeldModel) -> None:
    pipeline, admission = data_plane(repository)
    first = asyncio.create_task(predict(pipeline, content(), model="sequential", top_k=1))
    await until(lambda: held.rows)
    others = [asyncio.create_task(predict(pipeline, content(), model="sequential", top_k=1)) for _ in range(4)]
    await until(lambda: admission.pending == 5)
    others[1].cancel()
    others[2].cancel()
    held.release.set()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [False, False, True, True, False]
    assert held.rows == 3
    assert admission.pending == 0


async def test_cache_answers_for_pixels_that_were_seen_before(repository: ModelRepository, held: HeldModel) -> None:
    cache = PredictionCache(1_000_000)
    pipeline, _ = data_plane(repository, cache=cache)
    held.release.set()

    async def ask() -> list[Prediction]:
        return [await predict(pipeline, content(index), model="sequential", top_k=3) for index in (0, 1, 0, 0)]

    first, second, third, fourth = await ask()
    assert first == second == third == fourth
    assert (cache.hits, cache.misses, held.rows) == (2, 2, 2)


async def test_rows_of_one_request_are_computed_a_batch_at_a_time(repository: ModelRepository, held: HeldModel) -> None:
    pipeline, _ = data_plane(repository)
    held.release.set()
    images = np.zeros((70, 32, 32, 3), np.uint8)
    trace = Trace()

    async def ask() -> Inferred:
        return await pipeline.infer(images, trace, Deadline.after(PATIENCE_S), model="sequential")

    assert (await ask()).probabilities.shape == (70, 10)
    assert held.rows == 70
    assert trace.computed is not None
    assert trace.computed.batch_rows == BatchLimits().max_batch_size


async def test_no_rows_are_answered_with_none_and_too_many_are_rejected(repository: ModelRepository) -> None:
    pipeline, _ = data_plane(repository)

    async def ask(rows: int) -> Inferred:
        return await pipeline.infer(np.zeros((rows, 32, 32, 3), np.uint8), Trace(), Deadline.after(PATIENCE_S))

    assert (await ask(0)).probabilities.shape == (0, 10)
    with pytest.raises(TooLargeError, match="513 images in one request"):
        await ask(513)


async def test_each_file_has_its_own_answer_or_its_own_error(repository: ModelRepository) -> None:
    pipeline, _ = data_plane(repository)

    async def ask() -> Inferred:
        files = [content(1), b"no image", content(2)]
        return await pipeline.infer(files, Trace(), Deadline.after(PATIENCE_S), model="functional")

    inferred = await ask()
    first, second, third = inferred.results()
    assert isinstance(second, UndecodableError)
    assert not isinstance(first, RequestError)
    assert not isinstance(third, RequestError)
    expected = [golden_class("functional", SAMPLES[index]) for index in (1, 2)]
    assert [int(first.argmax()), int(third.argmax())] == expected
    with pytest.raises(UndecodableError, match="image 1: "):
        inferred.require_all()


async def test_large_images_and_answers_lower_the_limit_of_a_request(repository: ModelRepository) -> None:
    pipeline, _ = data_plane(repository)
    version = repository.find("sequential")
    assert pipeline.max_images(version) == 512
    version.labels = tuple(map(str, range(10_000)))
    assert pipeline.max_images(version) == 104
    version.image_bytes = 1024 * 1024 * 100
    assert pipeline.max_images(version) == 5

    async def ask() -> Inferred:
        images = np.zeros((6, 32, 32, 3), np.uint8)
        return await pipeline.infer(images, Trace(), Deadline.after(10), model="sequential")

    with pytest.raises(TooLargeError, match="6 images in one request"):
        await ask()


async def test_pixels_of_large_images_count_among_the_bytes_that_requests_hold(
    repository: ModelRepository, held: HeldModel
) -> None:
    pipeline, admission = data_plane(repository)
    repository.find("sequential").image_bytes = 2**24

    async def ask() -> None:
        asked = asyncio.create_task(predict(pipeline, content(), model="sequential", top_k=1))
        await asyncio.sleep(0.1)
        assert admission.pending_bytes == 2**24
        held.release.set()
        await asked
        assert admission.pending_bytes == 0

    await ask()
