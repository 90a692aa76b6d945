"""Watches the client of a request: the body must arrive in time, and the client must stay until the answer is sent.

Otherwise the request is cancelled, so that it causes no more work.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive

LOOK_FOR_CLIENT_AFTER_S: Final = 0.05


class ClientWatch:
    """Watches one client, in the task of its request. Most answers are sent before the first check.

    Args:
        receive: ASGI's callable of the request; nobody else may call it after `begin`.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._cause: Exception | None = None
        self._timer: asyncio.Handle | None = None
        self._look: asyncio.Task[None] | None = None

    def expect_body(self, timeout_s: float, too_late: Callable[[float], Exception]) -> None:
        """Cancel the request unless `begin` is called in time.

        Args:
            timeout_s: time limit, from now.
            too_late: returns the error to raise in place of the cancellation.
        """
        task = _current_task()
        self._timer = self._loop.call_later(timeout_s, lambda: self._cancel(task, too_late(timeout_s)))

    def begin(self) -> None:
        """Check for a disconnect from now on; the body has been read."""
        self.end()
        self._timer = self._loop.call_later(LOOK_FOR_CLIENT_AFTER_S, self._start, _current_task())

    def end(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
        if self._look is not None:
            self._look.cancel()

    def raise_cause(self) -> None:
        """Raise the reason for a cancellation that this object requested; ignore any other cancellation.

        Raises:
            ClientDisconnect: the client disconnected.
            Exception: the body came too late.
        """
        if self._cause is not None:
            _current_task().uncancel()
            raise self._cause

    def _start(self, task: "asyncio.Task[object]") -> None:
        self._look = asyncio.create_task(self._wait(task))

    async def _wait(self, task: "asyncio.Task[object]") -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._cancel(task, ClientDisconnect())

    def _cancel(self, task: "asyncio.Task[object]", cause: Exception) -> None:
        self._cause = cause
        task.cancel()


def _current_task() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("not in a task: an ASGI server runs each request in one")
    return task
