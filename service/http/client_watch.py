"""Watches the client of a request: that its body comes in time, and that it is still there while its answer takes long.

Where it isn't, the request is cancelled, so that it costs no more.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive

LOOK_FOR_CLIENT_AFTER_S: Final = 0.05


class ClientWatch:
    """Watches one client, within the task of its request; most answers are there before it looks for the first time.

    Args:
        receive: of the request; after `begin` nobody else may call it.
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
            timeout_s: longest time from now.
            too_late: makes of it the error that the cancellation then means.
        """
        task = _current_task()
        self._timer = self._loop.call_later(timeout_s, lambda: self._cancel(task, too_late(timeout_s)))

    def begin(self) -> None:
        """Look for the client from now on; the body was read."""
        self.end()
        self._timer = self._loop.call_later(LOOK_FOR_CLIENT_AFTER_S, self._start, _current_task())

    def end(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._look is not None:
            self._look.cancel()

    def raise_cause(self) -> None:
        """Turn a cancellation that came from here into what it means; of any other, do nothing.

        Raises:
            ClientDisconnect: the client went away.
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
