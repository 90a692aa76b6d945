"""Runs a coroutine at once up to its first wait, and from callbacks after it: a request without a task of its own.

A small image whose request has arrived whole is then answered within one tick of the event loop, or two. asyncio's
eager tasks do this from Python 3.12 on; 3.11 has none. The coroutine may await futures and `asyncio.sleep(0)` only.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class EagerCall(Generic[Result]):
    """One coroutine on its way.

    Args:
        coroutine: to be run.
        on_done: called once with what it returned or raised, on the event loop; within the first `step` where it
            never waits.
        on_wait: called with each future that it waits for. Cancelling that future cancels the coroutine.
    """

    __slots__ = ("_coroutine", "_on_done", "_on_wait")

    def __init__(
        self,
        coroutine: Coroutine[Any, None, Result],
        on_done: Callable[[Result | BaseException], None],
        on_wait: Callable[["asyncio.Future[Any]"], None],
    ) -> None:
        self._coroutine = coroutine
        self._on_done = on_done
        self._on_wait = on_wait

    def step(self, _done: "asyncio.Future[Any] | None" = None) -> None:
        """Run until the next wait; called once by whoever made it, and then by what it waits for."""
        try:
            # A future that failed or was cancelled raises in the coroutine, where it was awaited.
            waiting = self._coroutine.send(None)
        except StopIteration as stop:
            self._on_done(stop.value)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the caller's part
            self._on_done(error)
        else:
            if waiting is None:  # asyncio.sleep(0): over in the next tick, so there is nothing to cancel
                asyncio.get_running_loop().call_soon(self.step)
                return
            waiting._asyncio_future_blocking = False  # noqa: SLF001  # as asyncio.Task does
            self._on_wait(waiting)
            waiting.add_done_callback(self.step)
