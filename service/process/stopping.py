"""Stop of this process: its phases, as the servers beside uvicorn see them, and the time by which it has ended.

A signal requests it: readiness checks fail, and requests are still accepted (the lame-duck time). Then it begins: HTTP
and gRPC drain at the same time. `service.process.server` decides when; uvicorn itself drains HTTP.
"""

import asyncio
import logging
import os
import sys
import threading
from typing import NoReturn

logger = logging.getLogger(__name__)


class Stop:
    """A stop of this process. Used from one event loop, once that runs."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self.is_requested = False
        """True once a stop is requested: readiness is gone, and answers say that their connection closes."""
        self.is_forced = False
        """True after a second signal: the stop no longer waits for anybody."""

    @property
    def reason(self) -> str | None:
        """Why the service is not ready; None as long as no stop is requested."""
        return "the service is stopping" if self.is_requested else None

    def request(self) -> None:
        """Announce it; safe in a signal handler."""
        self.is_requested = True

    def begin(self, *, forced: bool = False) -> None:
        """Take no more requests, and answer those that there are."""
        self.is_requested = True
        self.is_forced = self.is_forced or forced
        self._begun.set()

    async def begun(self) -> None:
        """Wait until it begins."""
        await self._begun.wait()


def exit_within(seconds: float, code: int = 0) -> None:
    """End this process by then at the latest, whatever hangs; what was asked for first and is due earlier still holds.

    A thread ends it, since neither the event loop nor the interpreter's own end can be relied on: both wait for every
    thread of a pool, also for one that reads from a disk which has gone.
    """

    def end() -> None:
        logger.warning("stopped; unfinished work was abandoned")
        exit_now(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def exit_now(code: int) -> NoReturn:
    """End this process without waiting for any thread or child process of it; what was logged is written."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)
