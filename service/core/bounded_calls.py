"""Calls that may never return, because a file system hangs or a graph loops for ever: each in a thread of its own.

A thread can't be ended from outside. What is given up is a daemon that nobody waits for, and until it ends the same
call isn't made again.
"""

import errno
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Final, TypeVar

THREAD_NAME_PREFIX: Final = "loading"

Value = TypeVar("Value")


class UnresponsiveError(OSError):
    """Raised for a call that has not returned within its time, or had not when it was made before."""

    def __init__(self, problem: str) -> None:
        super().__init__(errno.ETIMEDOUT, problem)


class CallsStoppedError(Exception):
    """Raised for a call that `BoundedCalls.stop` has given up."""


class BoundedCalls:
    """Makes calls that may never return. Any thread."""

    def __init__(self) -> None:
        self._stopped: Future[None] = Future()
        self._under_way: dict[str, threading.Thread] = {}

    def run(self, what: str, call: Callable[[], Value], limit_s: float) -> Value:
        """Return what a call returns, or raise what it raises.

        Args:
            what: a call of this name is not made while an earlier one that was given up is still under way.
            limit_s: the longest time to wait, in seconds.

        Raises:
            UnresponsiveError: it took longer.
            CallsStoppedError: `stop` was called.
        """
        if self.is_under_way(what):
            raise UnresponsiveError("it still does not respond")
        outcome: Future[Value] = Future()
        thread = threading.Thread(
            target=_settle, args=(outcome, call), name=f"{THREAD_NAME_PREFIX} {what}", daemon=True
        )
        self._under_way[what] = thread
        thread.start()
        either: tuple[Future[Any], ...] = (outcome, self._stopped)
        wait(either, limit_s, FIRST_COMPLETED)
        if outcome.done():
            del self._under_way[what]
            return outcome.result()
        if self._stopped.done():
            raise CallsStoppedError
        raise UnresponsiveError(f"no response within {limit_s:g} s")

    def is_under_way(self, what: str) -> bool:
        """Return true while a call of this name that was given up has not returned."""
        thread = self._under_way.get(what)
        return thread is not None and thread.is_alive()

    def stop(self) -> None:
        """Give up every call, those that will be made, too."""
        if not self._stopped.done():
            self._stopped.set_result(None)


def _settle(outcome: "Future[Value]", call: Callable[[], Value]) -> None:
    try:
        outcome.set_result(call())
    except BaseException as error:  # noqa: BLE001  # whatever it is, the caller raises it
        outcome.set_exception(error)
