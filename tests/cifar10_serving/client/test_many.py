"""`predict_many`: ordered, bounded, continuing after failures, and ending when it is closed."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from cifar10_serving import client
from cifar10_serving.client import (
    AsyncClient,
    Client,
    ImageSource,
    ImageSourceError,
    Retries,
    UndecodableError,
    UnreachableError,
)
from tests.cifar10_serving.client.asking import Ask, answered, both, noted
from tests.cifar10_serving.client.scripted_server import ANSWERED, batch_answer, problem, scripted_server
from tests.conftest import SAMPLES, golden_class
from tests.e2e.server import Server, free_port

FILES = [sample.file for sample in SAMPLES]


@both
def test_results_come_in_order_and_each_failure_spoils_only_its_own(server: Server, ask: Ask) -> None:
    images: list[ImageSource] = [*FILES, "missing.png", b"GIF8 nonsense", *FILES]
    results = ask(server.url, "predict_many", images, model="sequential", concurrency=4)
    assert [result.index for result in results] == list(range(22))
    assert [type(result.error) for result in results[10:12]] == [ImageSourceError, UndecodableError]
    assert results[10].name == "missing.png"
    classes = [golden_class("sequential", sample) for sample in SAMPLES]
    found = [result.prediction and result.prediction.class_id for result in results]
    assert found == [*classes, None, None, *classes]


@both
def test_nothing_gives_nothing(server: Server, ask: Ask) -> None:
    assert ask(server.url, "predict_many", []) == []


@both
def test_concurrency_of_none_is_rejected(server: Server, ask: Ask) -> None:
    with pytest.raises(ValueError, match="concurrency = 0"):
        ask(server.url, "predict_many", [], concurrency=0)


def test_no_more_is_read_ahead_than_the_concurrency_allows(service: Client) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        content = FILES[0].read_bytes()
        while True:
            taken += 1
            yield content

    with closing(service.predict_many(endless(), model="sequential", concurrency=2)) as results:
        for seen in range(30):
            next(results)
            assert taken <= seen + 1 + 4 * 2


@pytest.mark.anyio
async def test_no_more_is_read_ahead_than_the_concurrency_allows_async(server: Server) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        content = FILES[0].read_bytes()
        while True:
            taken += 1
            yield content

    async with (
        AsyncClient(server.url) as asking,
        aclosing(asking.predict_many(endless(), model="sequential", concurrency=2)) as results,
    ):
        seen = 0
        async for _ in results:
            seen += 1
            assert taken <= seen + 4 * 2
            if seen == 30:
                break


@both
def test_as_many_are_asked_at_a_time_as_is_said(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar10_serving.client._many.BATCH_IMAGES", 1)
    with scripted_server(ANSWERED, delay_s=0.05, together=4) as scripted:
        assert len(answered(ask(scripted.url, "predict_many", [b"x"] * 12, concurrency=4))) == 12
    assert scripted.most_active == 4


@both
def test_small_images_that_wait_go_several_in_a_request(ask: Ask) -> None:
    with scripted_server(ANSWERED, delay_s=0.02) as scripted:
        assert len(answered(ask(scripted.url, "predict_many", [b"x"] * 64, concurrency=2))) == 64
    assert len(scripted.requests) < 48


@both
def test_files_fill_the_requests(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"x")
    with scripted_server(ANSWERED, delay_s=0.02) as scripted:
        results = ask(scripted.url, "predict_many", [tmp_path / "image.png"] * 512, concurrency=2)
    assert len(answered(results)) == 512
    assert len(scripted.requests) <= 40  # 16 full ones; some are sent while the first images are being taken


@both
@pytest.mark.parametrize("rejection", [problem(413, "too-large"), problem(404, "not-found")], ids=["413", "404"])
def test_service_that_takes_no_batch_is_asked_about_each_alone(ask: Ask, rejection: bytes) -> None:
    with scripted_server(ANSWERED, batches=rejection, delay_s=0.02) as scripted:
        assert len(answered(ask(scripted.url, "predict_many", [b"x"] * 12, concurrency=1))) == 12
    assert sum(request.startswith(b"POST /predict/batch") for request in scripted.requests) == 1


@both
@pytest.mark.parametrize(
    ("batches", "error"),
    [(problem(401, "unauthorized"), client.UnauthorizedError), (batch_answer(0), client.UnexpectedAnswerError)],
    ids=["401", "no results"],
)
def test_error_of_a_whole_batch_is_that_of_each_of_its_images(
    ask: Ask, batches: bytes, error: type[client.ClientError]
) -> None:
    with scripted_server(ANSWERED, batches=batches, delay_s=0.02) as scripted:
        results = ask(scripted.url, "predict_many", [b"x"] * 10, concurrency=1)
    assert len(results) == 10
    assert {type(result.error) for result in results} - {type(None)} == {error}
    assert [result.prediction is None for result in results] == [result.error is not None for result in results]


@both
def test_what_the_images_raise_is_raised(ask: Ask) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise OSError("the camera is gone")

    with scripted_server(ANSWERED) as scripted, pytest.raises(OSError, match="camera"):
        ask(scripted.url, "predict_many", broken())


@pytest.mark.anyio
async def test_asynchronous_results_end_promptly_when_they_are_closed() -> None:
    with scripted_server(ANSWERED, delay_s=0.1) as scripted:
        async with (
            AsyncClient(scripted.url) as asking,
            aclosing(asking.predict_many([b"x"] * 100, concurrency=4)) as results,
        ):
            async for _ in results:
                break
        assert len(scripted.requests) <= 12


@both
def test_images_after_a_service_is_gone_are_tried_once(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    waits: list[int] = []
    monkeypatch.setattr(Retries, "wait_s", noted(waits))
    results = ask(url, "predict_many", [b"x"] * 200, concurrency=2, options={"retries": Retries(attempts=3)})
    assert 2 <= len(waits) <= 8  # of those that were sent before the first was given up, not of each
    assert {type(result.error) for result in results} == {UnreachableError}


def test_one_client_may_be_shared_by_threads(service: Client) -> None:
    failures: list[client.ClientError] = []

    def ask() -> None:
        results = service.predict_many(FILES, model="sequential", concurrency=2)
        failures.extend(result.error for result in results if result.error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@both
def test_service_that_is_never_ready_is_waited_for_once_not_for_each_image(ask: Ask) -> None:
    options = {
        "retries": Retries(first_wait_s=0.05, longest_wait_s=0.05),
        "timeouts": client.Timeouts(total_s=1),
    }
    with scripted_server(problem(503, "unavailable")) as scripted:
        first = ask(scripted.url, "predict_many", [b"x"], options=options)
        results = ask(scripted.url, "predict_many", [b"x"] * 60, options=options, concurrency=1)
    errors = {type(result.error) for result in first + results}
    assert errors <= {client.UnavailableError, client.AnswerTimeoutError}  # a busy machine may cut an attempt short
    assert len(scripted.requests) < 5 * 60  # waiting for each image would make twenty attempts for each
