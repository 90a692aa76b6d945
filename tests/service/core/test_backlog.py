import asyncio
from functools import partial
from itertools import chain

import pytest

from service.core.admission import Admission
from service.core.backlog import BEGUN_IN_A_TURN, Backlog, Refusal
from service.errors import UnavailableError

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("both_event_loops")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def backlog(max_requests: int = 100, max_pending: int = 1000) -> Backlog:
    return Backlog(Admission(max_pending, 1000), max_requests)


async def one_turn() -> None:
    await asyncio.sleep(0)


async def begun_in_turns(requests: int) -> list[list[int]]:
    """Which requests of those that come at once begin in the same turn, and in the turns after it."""
    line = backlog()
    begun: dict[int, float] = {}

    def begin(number: int, waited_s: float) -> None:
        begun[number] = waited_s

    for number in range(requests):
        line.add(b"", partial(begin, number))
    assert set(begun.values()) == {0}
    turns: list[list[int]] = []
    while len(begun) > sum(map(len, turns)):
        turns.append(list(begun)[sum(map(len, turns)) :])
        await one_turn()
    assert all(waited_s > 0 for number, waited_s in begun.items() if number not in turns[0])
    return turns


async def test_a_turn_of_the_event_loop_begins_no_more_than_its_share_and_in_order() -> None:
    turns = await begun_in_turns(3 * BEGUN_IN_A_TURN)
    assert [len(turn) for turn in turns] == [BEGUN_IN_A_TURN] * 3
    assert [*chain(*turns)] == list(range(3 * BEGUN_IN_A_TURN))


async def test_a_request_by_itself_begins_at_once() -> None:
    assert await begun_in_turns(1) == [[0]]


async def test_all_are_refused_while_the_line_is_full() -> None:
    line = backlog(max_requests=2)
    for _ in range(BEGUN_IN_A_TURN + 1):
        line.add(b"", lambda _: None)
    assert line.refusal(b"/predict") is None
    line.add(b"", lambda _: None)
    refusal = line.refusal(b"/predict")
    assert refusal is not None
    assert refusal.error.problem == "2 requests are being received, queued or computed"
    assert refusal.error.retry_after_s >= 1
    await one_turn()
    assert line.refusal(b"/predict") is None


async def test_those_that_have_begun_take_up_its_room() -> None:
    line = backlog(max_pending=1)
    with line.admission.slot():
        assert line.refusal(b"/predict") is not None
    assert line.refusal(b"/predict") is None


class FullQueue:
    """A queue with room for three."""

    rows = 3

    def holds(self, ahead: int) -> bool:
        return self.rows + ahead >= 3

    def error(self) -> UnavailableError:
        return UnavailableError(f"{self.rows} wait", retry_after_s=1)


async def test_what_one_was_refused_for_holds_for_its_like_while_there_is_too_little() -> None:
    line, queue = backlog(), FullQueue()
    assert not line.refuses
    refusal = Refusal(queue, ("vgg16", 1))
    line.refuse_alike(b"/predict?model=vgg16", refusal)
    assert line.refuses
    assert line.refusal(b"/predict?model=vgg16") is refusal
    assert line.refusal(b"/predict?model=sequential") is None
    line.refused(refusal)
    line.refused(refusal)
    assert line.take_refused() == {("vgg16", 1): 2}
    assert line.take_refused() == {}
    queue.rows = 1
    for _ in range(BEGUN_IN_A_TURN):
        line.add(b"/predict", lambda _: None)
    assert line.refusal(b"/predict?model=vgg16") is None
    for _ in range(2):
        line.add(b"/predict?model=vgg16", lambda _: None)
    assert line.refusal(b"/predict?model=vgg16") is refusal  # those in line will take what room there is
    await one_turn()
    assert line.refusal(b"/predict?model=vgg16") is None


def test_a_refusal_tells_how_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    line, queue, now_s = backlog(), FullQueue(), 100.0
    monkeypatch.setattr("service.core.backlog.time.monotonic", lambda: now_s)
    line.refuse_alike(b"/predict", Refusal(queue))
    for seconds, rows, told in ((0.05, 4, "3 wait"), (0.2, 5, "5 wait")):
        now_s, queue.rows = 100 + seconds, rows
        refusal = line.refusal(b"/predict")
        assert refusal is not None
        assert refusal.error.problem == told
    now_s, queue.rows = 110, 0
    assert line.refusal(b"/predict") is None
    assert not line.refuses
