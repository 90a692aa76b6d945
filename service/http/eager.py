"""Runs a coroutine at once up to its first wait and then from callbacks: a request without a task of its own.

A small image whose request has arrived completely is then answered within one or two ticks of the event loop.
asyncio's eager tasks do the same from Python 3.12 on; 3.11 has none. The coroutine may await only futures and
`asyncio.sleep(0)`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class EagerCall(Generic[Result]):
    """A running coroutine.

    Args:
        coroutine: the coroutine to run.
        on_done: called once with the result or the exception, on the event loop; within the first `step` if the
            coroutine never waits.
        on_wait: called with each future that the coroutine waits for. Cancelling the future cancels the coroutine.
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
        """Run until the next wait. The creator calls this once, then each awaited future calls it."""
        try:
            # If the future failed or was cancelled, the exception is raised in the coroutine.
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
