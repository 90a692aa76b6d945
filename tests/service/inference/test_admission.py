import asyncio
from contextlib import ExitStack
from functools import partial
from itertools import chain

import pytest

from service.errors import UnavailableError
from service.inference.admission import (
    MAX_STARTS_PER_TICK,
    MAX_UNCHECKED,
    Admission,
    Backlog,
    Rejection,
)
from tests.waiting import ManualClock

pytestmark = pytest.mark.anyio


def test_one_more_than_the_slots_is_rejected_until_one_leaves() -> None:
    admission = Admission(2, 100)
    with admission.slot():
        with admission.slot():
            with pytest.raises(UnavailableError, match="2 requests are being received") as caught, admission.slot():
                pass
            assert caught.value.retry_after_s >= 1
            assert admission.pending == 2
        with admission.slot():
            assert admission.pending == 2
    assert admission.pending == 0


def test_work_that_outlives_its_request_keeps_a_slot() -> None:
    admission = Admission(1, 100)
    with admission.slot():
        admission.stay()
    with pytest.raises(UnavailableError), admission.slot():
        pass
    admission.leave()
    with admission.slot():
        assert admission.pending == 1


def test_retry_after_follows_the_rate_of_answers() -> None:
    clock = ManualClock()
    admission = Admission(10, 100, clock)
    with ExitStack() as first_nine:
        for _ in range(9):
            first_nine.enter_context(admission.slot())
        for _ in range(100):
            with admission.slot():
                clock.now_s += 0.5
        with admission.slot(), pytest.raises(UnavailableError) as caught, admission.slot():
            pass
    assert caught.value.retry_after_s == 5


def test_bodies_that_would_take_too_much_memory_together_are_rejected() -> None:
    admission = Admission(10, 100)
    with admission.slot() as first:
        first.hold_bytes(60)
        with admission.slot() as second, pytest.raises(UnavailableError, match="hold 60 bytes"):
            second.hold_bytes(41)
    assert admission.pending_bytes == 0
    with admission.slot() as alone:
        alone.hold_bytes(1000)  # a single body is limited by max_body_bytes alone
    assert admission.pending_bytes == 0


def backlog(max_requests: int = 100, max_pending: int = 1000) -> Backlog:
    return Backlog(Admission(max_pending, 1000), max_requests)


async def one_tick() -> None:
    await asyncio.sleep(0)


async def starts_by_tick(requests: int) -> list[list[int]]:
    """Return which of several simultaneous requests start in each tick of the event loop."""
    waiting = backlog()
    started: dict[int, float] = {}

    def start(number: int, waited_s: float) -> None:
        started[number] = waited_s

    for number in range(requests):
        waiting.add(b"", partial(start, number))
    assert set(started.values()) == {0}
    ticks: list[list[int]] = []
    while len(started) > sum(map(len, ticks)):
        ticks.append(list(started)[sum(map(len, ticks)) :])
        await one_tick()
    assert all(waited_s > 0 for number, waited_s in started.items() if number not in ticks[0])
    return ticks


async def test_tick_of_the_event_loop_starts_no_more_than_its_share_in_order() -> None:
    ticks = await starts_by_tick(3 * MAX_STARTS_PER_TICK)
    assert [len(tick) for tick in ticks] == [MAX_STARTS_PER_TICK] * 3
    assert [*chain(*ticks)] == list(range(3 * MAX_STARTS_PER_TICK))


async def test_a_request_by_itself_starts_at_once() -> None:
    assert await starts_by_tick(1) == [[0]]


async def test_all_are_rejected_while_the_backlog_is_full() -> None:
    waiting = backlog(max_requests=2)
    for _ in range(MAX_STARTS_PER_TICK + 1):
        waiting.add(b"", lambda _: None)
    assert waiting.rejection(b"/predict") is None
    waiting.add(b"", lambda _: None)
    rejection = waiting.rejection(b"/predict")
    assert rejection is not None
    assert rejection.error.problem == "2 requests are being received, queued or computed"
    assert rejection.error.retry_after_s >= 1
    await one_tick()
    assert waiting.rejection(b"/predict") is None


async def test_those_that_have_started_take_up_its_room() -> None:
    waiting = backlog(max_pending=1)
    with waiting.admission.slot():
        assert waiting.rejection(b"/predict") is not None
    assert waiting.rejection(b"/predict") is None


class FullQueue:
    """A queue with room for three."""

    rows = 3

    def is_exhausted(self, ahead: int) -> bool:
        return self.rows + ahead >= 3

    def error(self) -> UnavailableError:
        return UnavailableError(f"{self.rows} wait", retry_after_s=1)


async def test_same_target_is_rejected_until_there_is_capacity() -> None:
    waiting, queue = backlog(), FullQueue()
    assert not waiting.rejects
    rejection = Rejection(queue, ("vgg16", 1))
    waiting.reject_same_target(b"/predict?model=vgg16", rejection)
    assert waiting.rejects
    assert waiting.rejection(b"/predict?model=vgg16") is rejection
    assert waiting.rejection(b"/predict?model=sequential") is None
    waiting.rejected(rejection)
    waiting.rejected(rejection)
    assert waiting.take_rejected() == {("vgg16", 1): 2}
    assert waiting.take_rejected() == {}
    queue.rows = 1
    for _ in range(MAX_STARTS_PER_TICK):
        waiting.add(b"/predict", lambda _: None)
    assert waiting.rejection(b"/predict?model=vgg16") is None
    for _ in range(2):
        waiting.add(b"/predict?model=vgg16", lambda _: None)
    assert waiting.rejection(b"/predict?model=vgg16") is rejection  # queued ones will take the room that is left
    await one_tick()
    assert waiting.rejection(b"/predict?model=vgg16") is None


def test_rejection_says_the_current_state() -> None:
    queue, clock = FullQueue(), ManualClock(100.0)
    waiting = Backlog(Admission(1000, 1000, clock), 100)
    waiting.reject_same_target(b"/predict", Rejection(queue))
    for seconds, rows, words in ((0.05, 4, "3 wait"), (0.2, 5, "5 wait")):
        clock.now_s, queue.rows = 100 + seconds, rows
        rejection = waiting.rejection(b"/predict")
        assert rejection is not None
        assert rejection.error.problem == words
    clock.now_s, queue.rows = 110, 0
    assert waiting.rejection(b"/predict") is None
    assert not waiting.rejects


async def test_first_burst_is_rejected_by_what_is_known_of_its_target() -> None:
    waiting, queue = backlog(max_requests=1000), FullQueue()
    queue.rows = 0
    waiting.limit_of = lambda model, version: queue if (model, version) == ("vgg16", 1) else None
    for _ in range(MAX_UNCHECKED):
        waiting.learn_limit(b"/predict?model=vgg16", ("vgg16", 1))
        waiting.add(b"/predict?model=vgg16", lambda _: None)
    assert not waiting.rejects
    for _ in range(MAX_STARTS_PER_TICK):
        waiting.add(b"/predict?model=vgg16", lambda _: None)
    assert waiting.rejects
    rejection = waiting.rejection(b"/predict?model=vgg16")
    assert rejection is not None
    assert rejection.version == ("vgg16", 1)
    assert waiting.rejection(b"/predict?model=sequential") is None


async def test_request_that_was_queued_is_rejected_without_those_behind_it() -> None:
    waiting, queue = backlog(), FullQueue()
    waiting.reject_same_target(b"/predict", Rejection(queue))
    for _ in range(2 * MAX_STARTS_PER_TICK):
        waiting.add(b"/predict", lambda _: None)
    assert waiting.exhausted(b"/predict") is not None
    queue.rows = 2
    assert waiting.exhausted(b"/predict") is None
    assert waiting.exhausted(b"/v2/models") is None
