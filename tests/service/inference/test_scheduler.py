import asyncio
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cifar10_serving.runtimes.base import Images, Probabilities
from service.errors import UnavailableError
from service.inference.scheduler import BatchLimits, BatchQueue, Computed, Scheduler
from service.registry.version import ModelVersion
from tests.fakes import FakeModel
from tests.waiting import PATIENCE_S, ManualClock, until, wait_until

pytestmark = pytest.mark.anyio
NEVER_S = 1e6


class Recorder(FakeModel):
    """A model that answers with each image's first value, and remembers what it computed; one that is held waits."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[int] = []
        self.order: list[str] = []
        self.name = ""
        self.active: Counter[str] = Counter()
        self.most_active: Counter[str] = Counter()
        self.may_compute = threading.Event()
        if not held:
            self.may_compute.set()

    def predict(self, images: Images) -> Probabilities:
        self.batches.append(len(images))
        self.order.append(self.name)
        for name in (self.name, "any"):
            self.active[name] += 1
            self.most_active[name] = max(self.most_active[name], self.active[name])
        assert self.may_compute.wait(PATIENCE_S)
        self.active.subtract((self.name, "any"))
        if images.max() == 255:
            raise RuntimeError("a broken row")
        return images[:, 0, 0, :1].astype(np.float32).repeat(10, axis=1)


def ready(model: Recorder, name: str = "sequential") -> ModelVersion:
    model.name = name
    version = ModelVersion(name, 1, Path("nowhere"), ())
    version.model = model
    return version


def rows(*values: int) -> Images:
    return np.array(values, np.uint8)[:, None, None, None].repeat(32, 1).repeat(32, 2).repeat(3, 3)


def soon() -> float:
    return time.monotonic() + PATIENCE_S


async def test_each_caller_gets_its_own_rows_whatever_the_batch() -> None:
    model = Recorder(held=True)
    scheduler, version = Scheduler(BatchLimits(max_batch_size=8)), ready(model)
    requests = [tuple(range(first, first + size)) for first, size in ((1, 1), (10, 3), (20, 1), (30, 12), (50, 2))] * 5

    answers = [scheduler.submit(version, rows(*values), soon()) for values in requests]
    model.may_compute.set()
    for values, computed in zip(requests, await asyncio.gather(*answers), strict=True):
        assert computed.probabilities[:, 0].tolist() == list(values)
    assert max(model.batches) == 12  # a request that alone has more than a batch is computed alone
    assert sum(model.batches) == sum(map(len, requests))
    assert len(model.batches) < len(requests)
    scheduler.close()


async def test_idle_runtime_waits_for_nobody() -> None:
    model = Recorder()
    scheduler, version = Scheduler(BatchLimits()), ready(model)

    for _ in range(3):
        computed = await scheduler.submit(version, rows(1), soon())
        assert computed.batch_rows == 1
    assert model.batches == [1, 1, 1]
    scheduler.close()


async def test_batch_wait_ends_once_the_batch_is_full() -> None:
    model = Recorder()
    scheduler = Scheduler(BatchLimits(max_batch_size=4, max_batch_delay_s=10 * PATIENCE_S))
    version = ready(model)
    answers = []
    for value in range(4):
        answers.append(scheduler.submit(version, rows(value), soon()))
        await asyncio.sleep(0.005)
    await asyncio.gather(*answers)
    assert model.batches == [4]
    scheduler.close()


async def test_batch_wait_ends_after_its_time() -> None:
    model = Recorder()
    scheduler, version = Scheduler(BatchLimits(max_batch_size=4, max_batch_delay_s=0.05)), ready(model)

    assert (await scheduler.submit(version, rows(7), soon())).queue_s >= 0.05
    assert model.batches == [1]
    scheduler.close()


async def test_flood_on_one_model_does_not_starve_another() -> None:
    flooded, other = Recorder(held=True), Recorder()
    other.order = flooded.order
    scheduler = Scheduler(BatchLimits(max_batch_size=4))
    version, other_version = ready(flooded), ready(other, "functional")
    flood = [scheduler.submit(version, rows(1), soon()) for _ in range(200)]
    await until(lambda: flooded.batches)
    others = scheduler.submit(other_version, rows(1), soon())
    flooded.may_compute.set()
    await asyncio.gather(others, *flood)
    assert flooded.order.index("functional") <= 2  # the batch that was being computed, and the next in turn
    scheduler.close()


async def test_broken_row_spoils_no_other_and_the_thread_lives_on() -> None:
    model = Recorder()
    scheduler, version = Scheduler(BatchLimits()), ready(model)

    answers = [scheduler.submit(version, rows(value), soon()) for value in (3, 255, 4)]
    first, broken, third = await asyncio.gather(*answers, return_exceptions=True)
    assert isinstance(broken, RuntimeError)
    assert not isinstance(first, BaseException)
    assert not isinstance(third, BaseException)
    assert (first.probabilities[0, 0], third.probabilities[0, 0]) == (3, 4)
    assert (await scheduler.submit(version, rows(5), soon())).probabilities[0, 0] == 5
    scheduler.close()


async def test_expired_rows_get_their_error_in_time_and_are_not_computed() -> None:
    model = Recorder(held=True)
    scheduler, version = Scheduler(BatchLimits()), ready(model)

    computing = scheduler.submit(version, rows(1), soon())
    await until(lambda: model.batches)
    with pytest.raises(TimeoutError):
        await scheduler.submit(version, rows(2), time.monotonic() + 0.05)
    assert not computing.done()
    model.may_compute.set()
    await computing
    assert (await scheduler.submit(version, rows(3), soon())).batch_rows == 1
    assert model.batches == [1, 1]
    scheduler.close()


async def test_full_queues_reject_at_once_and_say_when_to_retry() -> None:
    clock = ManualClock()

    class TwoSecondsARow(Recorder):
        def predict(self, images: Images) -> Probabilities:
            clock.now_s += 2 * len(images)
            return super().predict(images)

    model, other = TwoSecondsARow(), Recorder()
    limits = BatchLimits(max_batch_size=1, max_queue_size=5, max_queue_size_per_model=3)
    scheduler = Scheduler(limits, clock=clock)
    version, other_version = ready(model), ready(other, "functional")
    never = clock.now_s + NEVER_S
    await scheduler.submit(version, rows(1), never)  # so that the rate is known
    model.may_compute.clear()
    answers = [scheduler.submit(version, rows(1), never)]
    await until(lambda: len(model.batches) == 2)
    answers += [scheduler.submit(version, rows(1), never) for _ in range(3)]
    with pytest.raises(UnavailableError, match="3 images are queued for sequential") as full:
        scheduler.submit(version, rows(1), never)
    assert full.value.retry_after_s == 6
    answers += [scheduler.submit(other_version, rows(1), never) for _ in range(2)]
    with pytest.raises(UnavailableError, match="5 images are queued"):
        scheduler.submit(other_version, rows(1), never)
    model.may_compute.set()
    await asyncio.gather(*answers)
    assert scheduler.queue_rows == 0
    await scheduler.submit(version, rows(1), never)
    scheduler.close()


async def test_closing_answers_those_who_wait_and_ends_the_threads() -> None:
    model = Recorder(held=True)
    others = set(threading.enumerate())
    scheduler, version = Scheduler(BatchLimits()), ready(model)

    started = scheduler.submit(version, rows(1), soon())
    await until(lambda: model.batches)
    waiting = scheduler.submit(version, rows(2), soon())
    scheduler.close()
    with pytest.raises(UnavailableError, match="stopping"):
        await waiting
    with pytest.raises(UnavailableError, match="stopping"):
        scheduler.submit(version, rows(3), soon())
    model.may_compute.set()
    await started
    wait_until(lambda: set(threading.enumerate()) <= others)
    assert model.batches == [1]


async def test_rows_whose_time_is_over_when_they_come_are_told_so() -> None:
    model = Recorder()
    scheduler, version = Scheduler(BatchLimits()), ready(model)

    with pytest.raises(TimeoutError):
        await scheduler.submit(version, rows(1), time.monotonic())
    assert (await scheduler.submit(version, rows(2), soon())).probabilities[0, 0] == 2
    assert model.batches == [1]
    scheduler.close()


async def test_quick_model_computes_in_place_where_nothing_else_is_to_be_done() -> None:
    model = Recorder()
    scheduler, version = Scheduler(BatchLimits()), ready(model)
    version.row_s = 0.0001
    computed = scheduler.compute_now(version, rows(7))
    assert computed is not None
    assert (computed.probabilities[0, 0], computed.batch_rows, computed.queue_s) == (7, 1, 0)
    assert scheduler.compute_now(version, rows(*range(100))) is None  # takes too long
    waiting = scheduler.submit(version, rows(1), soon())
    assert scheduler.compute_now(version, rows(7)) is None  # has to wait its turn
    await waiting
    scheduler.close()


@pytest.mark.parametrize("row_s", [0.0, 0.1])
async def test_model_that_is_slow_or_unknown_never_computes_in_place(row_s: float) -> None:
    scheduler, version = Scheduler(BatchLimits()), ready(Recorder())
    version.row_s = row_s
    assert scheduler.compute_now(version, rows(7)) is None


async def test_version_computes_no_more_batches_at_once_than_its_runtime_has_calls_for() -> None:
    model, other = Recorder(held=True), Recorder()
    other.active, other.most_active, other.may_compute = model.active, model.most_active, model.may_compute
    scheduler = Scheduler(BatchLimits(max_batch_size=1), parallel_batches=3)
    versions = [ready(model), ready(other, "functional")] * 3

    answers = [scheduler.submit(version, rows(1), soon()) for version in versions]
    await until(lambda: model.active["any"] == 2)
    model.may_compute.set()
    await asyncio.gather(*answers)
    assert model.most_active == {"sequential": 1, "functional": 1, "any": 2}
    scheduler.close()


async def test_deadlines_of_any_length_harm_no_other_request() -> None:
    model = Recorder()
    scheduler, version = Scheduler(BatchLimits()), ready(model)

    for microseconds in (*range(0, 2000, 50), -5):
        in_a_hurry = scheduler.submit(version, rows(1), time.monotonic() + microseconds / 1e6)
        others = [scheduler.submit(version, rows(value), soon()) for value in (2, 3)]
        computed = await asyncio.gather(*others)
        assert [int(answer.probabilities[0, 0]) for answer in computed] == [2, 3]
        (outcome,) = await asyncio.gather(in_a_hurry, return_exceptions=True)
        assert isinstance(outcome, Computed | TimeoutError)
    scheduler.close()


async def test_deadlines_are_kept_in_whatever_order_they_come() -> None:
    model, clock = Recorder(held=True), ManualClock()
    scheduler, version = Scheduler(BatchLimits(max_batch_size=1), clock=clock), ready(model)

    computing = scheduler.submit(version, rows(1), clock.now_s + NEVER_S)
    await until(lambda: model.batches)
    start_s = clock.now_s
    late, early, hurried = (scheduler.submit(version, rows(2), start_s + seconds) for seconds in (0.02, 0.01, 0.0004))
    for passed_s, ended, waiting in ((0.005, hurried, {early, late}), (0.015, early, {late}), (0.025, late, set())):
        clock.now_s = start_s + passed_s
        with pytest.raises(TimeoutError):
            await ended
        assert not any(answer.done() for answer in waiting)
    assert not computing.done()
    model.may_compute.set()
    await computing
    assert model.batches == [1]
    scheduler.close()


async def test_expired_requests_leave_room_for_others() -> None:
    model = Recorder(held=True)
    scheduler = Scheduler(BatchLimits(max_batch_size=1, max_queue_size=4, max_queue_size_per_model=4))
    version = ready(model)
    computing = scheduler.submit(version, rows(1), soon())
    await until(lambda: model.batches)
    for _ in range(5):
        in_a_hurry = [scheduler.submit(version, rows(2), time.monotonic() + 0.001) for _ in range(4)]
        outcomes = await asyncio.gather(*in_a_hurry, return_exceptions=True)
        assert all(isinstance(outcome, TimeoutError) for outcome in outcomes)
        assert scheduler.queue_rows == 0
    patient = scheduler.submit(version, rows(3), soon())
    assert not computing.done()
    model.may_compute.set()
    assert (await patient).probabilities[0, 0] == 3
    assert model.batches == [1, 1]
    scheduler.close()


class Slow(Recorder):
    """A model whose images take longer than handing them over, with calls for each of two cores."""

    parallel_calls = 2

    def __init__(self, *, held: bool = False) -> None:
        super().__init__(held=held)
        self.alone: list[int] = []

    def predict_alone(self, images: Images) -> Probabilities:
        self.alone.append(len(images))
        return self.predict(images)


class Releases:
    """The reasons for which batches were released."""

    def __init__(self) -> None:
        self.reasons: list[tuple[int, str]] = []

    def __call__(self, _model: str, _version: int, rows: int, _compute_s: float, reason: str) -> None:
        self.reasons.append((rows, reason))


def ready_and_slow(model: Slow) -> ModelVersion:
    version = ready(model)
    version.row_s = 0.004
    return version


async def test_free_calls_share_what_is_queued() -> None:
    model, releases = Slow(), Releases()
    scheduler = Scheduler(BatchLimits(), parallel_batches=2, batch_computed=releases)
    version = ready_and_slow(model)
    await scheduler.submit(version, rows(1), soon())  # starts the threads
    await until(lambda: releases.reasons)
    model.may_compute.clear()
    answers = [scheduler.submit(version, rows(value), soon()) for value in range(8)]
    await until(lambda: len(model.batches) == 3)
    assert model.batches[1:] == [4, 4]
    model.may_compute.set()
    assert [computed.probabilities[0, 0] for computed in await asyncio.gather(*answers)] == list(range(8))
    assert sorted(releases.reasons[1:]) == [(4, "idle"), (4, "split")]
    scheduler.close()


async def test_image_that_is_alone_gets_all_cores_and_a_second_one_does_not() -> None:
    model = Slow()
    scheduler, version = Scheduler(BatchLimits(), parallel_batches=2), ready_and_slow(model)
    await scheduler.submit(version, rows(1), soon())
    assert model.alone == [1]
    model.may_compute.clear()
    first = scheduler.submit(version, rows(2), soon())
    await until(lambda: len(model.batches) == 2)
    second = scheduler.submit(version, rows(3), soon())
    await until(lambda: len(model.batches) == 3)
    model.may_compute.set()
    await asyncio.gather(first, second)
    assert model.alone == [1, 1]
    scheduler.close()


async def test_call_takes_no_more_than_its_share_of_all_rows() -> None:
    model, releases = Slow(held=True), Releases()
    scheduler = Scheduler(BatchLimits(), parallel_batches=2, batch_computed=releases)
    version = ready_and_slow(model)
    first = scheduler.submit(version, rows(1), soon())
    await until(lambda: len(model.batches) == 1)
    others = [scheduler.submit(version, rows(value), soon()) for value in range(7)]
    await until(lambda: len(model.batches) == 2)
    assert model.batches == [1, 4]  # half of all eight, though seven were queued
    model.may_compute.set()
    await asyncio.gather(first, *others)
    assert sum(model.batches) == 8
    scheduler.close()


@pytest.mark.parametrize(
    ("row_s", "expected"),
    [(0.0011, 32), (0.002, 20), (0.01, 8), (0.03, 3), (1.0, 1)],
    ids=[
        "as many as allowed",
        "efficient for a time",
        "efficient for its rows",
        "limited by time",
        "an image at a time",
    ],
)
async def test_batch_has_as_many_rows_as_help(row_s: float, expected: int) -> None:
    model = Slow()
    scheduler, version = Scheduler(BatchLimits()), ready(model)
    version.row_s = row_s
    answers = [scheduler.submit(version, rows(value), soon()) for value in range(40)]  # in one tick
    await asyncio.gather(*answers)
    assert model.batches[0] == expected
    scheduler.close()


def slow_queue(max_calls: int = 2) -> tuple[BatchQueue, ModelVersion]:
    """Return a queue, and its version, which it does not keep alive."""
    version = ready_and_slow(Slow())
    return BatchQueue(version, max_calls), version


def compute(queue: BatchQueue, rows: int, start_s: float) -> float:
    """Compute a batch of so many rows in a hundredth of a second each; return the time of its end."""
    queue.started(rows, start_s)
    queue.ended(rows, rows / 100, start_s + rows / 100)
    return start_s + rows / 100


async def test_clients_of_a_batch_are_expected_again_for_a_part_of_its_time() -> None:
    queue, _version = slow_queue()
    end_s = compute(queue, 8, 100.0)
    assert queue.share == 4  # of eight, for two free calls
    assert queue.expected_until_s == pytest.approx(end_s + 0.2 * 0.08)
    queue.started(4, end_s)
    assert queue.share == 4
    queue.started(4, end_s)
    assert queue.share == 4  # of those that are being computed


async def test_clients_that_do_not_return_in_time_are_expected_no_more_but_now_and_then() -> None:
    queue, _version = slow_queue(1)
    now_s, expected = 0.0, []
    for _ in range(64):
        now_s = compute(queue, 4, now_s)
        expected.append(queue.share == 4)
        now_s = compute(queue, 1, now_s + 1)  # one of four has returned, and late
    assert expected[:5] == [True] * 5
    assert expected.count(True) < 16
    assert any(expected[-32:])


async def test_quick_model_expects_nobody() -> None:
    version = ready(Recorder())
    version.row_s = 0.0001
    queue = BatchQueue(version, 2)
    compute(queue, 8, 0.0)
    assert queue.share == 0


async def test_reason_of_each_release_is_told() -> None:
    model, releases = Recorder(), Releases()
    scheduler, version = Scheduler(BatchLimits(max_batch_size=2), batch_computed=releases), ready(model)
    await scheduler.submit(version, rows(1), soon())
    await scheduler.submit(version, rows(1, 2), soon())
    version.row_s = 1e-6
    assert scheduler.compute_now(version, rows(1)) is not None
    assert releases.reasons == [(1, "idle"), (2, "full"), (1, "in_place")]
    scheduler.close()
    delayed = Scheduler(BatchLimits(max_batch_delay_s=0.001), batch_computed=releases)
    await delayed.submit(version, rows(1), soon())
    assert releases.reasons[-1] == (1, "delay")
    delayed.close()
