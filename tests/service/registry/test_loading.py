import threading
from collections.abc import Iterator

import pytest

from service.registry.loading import BoundedCalls, CallsStoppedError, UnresponsiveError


@pytest.fixture
def answered() -> Iterator[threading.Event]:
    """Until it is set, a call that waits for it does not return."""
    event = threading.Event()
    yield event
    event.set()


def test_call_gives_what_it_returns_and_raises_what_it_raises() -> None:
    calls = BoundedCalls()
    assert calls.run("a", lambda: 7, 60) == 7
    with pytest.raises(ZeroDivisionError):
        calls.run("a", lambda: 1 / 0, 60)


def test_call_that_hangs_is_given_up_and_not_made_again_until_it_returns(answered: threading.Event) -> None:
    calls = BoundedCalls()
    made: list[int] = []

    def hang() -> None:
        made.append(1)
        answered.wait()

    with pytest.raises(UnresponsiveError, match=r"no response within 0.01 s"):
        calls.run("a", hang, 0.01)
    with pytest.raises(UnresponsiveError, match="still does not respond"):
        calls.run("a", hang, 60)
    assert calls.run("b", lambda: 7, 60) == 7
    assert len(made) == 1
    answered.set()
    while calls.is_under_way("a"):
        pass
    calls.run("a", hang, 60)
    assert len(made) == 2


def test_stop_gives_up_what_waits(answered: threading.Event) -> None:
    calls = BoundedCalls()
    threading.Timer(0.05, calls.stop).start()
    with pytest.raises(CallsStoppedError):
        calls.run("a", answered.wait, 600)
