"""Notices that a client went away while its answer takes long, and cancels its request, so that it costs no more."""

import asyncio
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive

LOOK_FOR_CLIENT_AFTER_S: Final = 0.05
CLIENT_GONE: Final = "client-gone"


class ClientWatch:
    """Watches one client; most answers are there before it looks for the first time.

    Args:
        receive: of the request; while the watch runs nobody else may call it.
    """

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self._gone = False
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Watch from now on; the body was read."""
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("no task: an ASGI server runs each request in one")
        self._timer = asyncio.get_running_loop().call_later(LOOK_FOR_CLIENT_AFTER_S, self._start, task)

    def end(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._look is not None:
            self._look.cancel()

    def raise_if_gone(self) -> None:
        """Turn the cancellation that came from here into what it means.

        Raises:
            ClientDisconnect: the client went away.
        """
        task = asyncio.current_task()
        if self._gone and task is not None:
            task.uncancel()
            raise ClientDisconnect

    def _start(self, task: asyncio.Task[object]) -> None:
        self._look = asyncio.create_task(self._wait(task))

    async def _wait(self, task: asyncio.Task[object]) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        task.cancel()
