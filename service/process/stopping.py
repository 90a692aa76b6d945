"""The shutdown of this process: its phases, and the time limit by which the process exits.

A signal requests it: readiness fails, and requests are still accepted (lame duck). Then it begins: HTTP and gRPC drain
at the same time. `service.process.server` controls the phases; uvicorn drains HTTP.
"""

import asyncio
import logging
import os
import sys
import threading
from typing import NoReturn

logger = logging.getLogger(__name__)


class Stop:
    """The state of the shutdown of this process; used from one event loop, once that runs."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self.is_requested = False
        """True once a shutdown is requested: readiness fails, and answers announce that their connection closes."""
        self.is_forced = False
        """True after a second signal: the shutdown waits for nothing."""

    @property
    def reason(self) -> str | None:
        """The reason for not being ready; None if no shutdown is requested."""
        return "the service is stopping" if self.is_requested else None

    def request(self) -> None:
        """Request the shutdown; safe in a signal handler."""
        self.is_requested = True

    def begin(self, *, forced: bool = False) -> None:
        """Begin to drain: accept no new requests, and answer the pending ones."""
        self.is_requested = True
        self.is_forced = self.is_forced or forced
        self._begun.set()

    async def begun(self) -> None:
        """Wait until draining begins."""
        await self._begun.wait()


def exit_within(seconds: float, code: int = 0) -> None:
    """Exit within this time, whatever hangs; an earlier deadline that was set before still holds.

    A thread does this, because the event loop and the interpreter's exit both wait for every thread of a pool, even for
    one that reads from an unresponsive disk.
    """

    def end() -> None:
        logger.warning("stopped; unfinished work was abandoned")
        exit_now(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def exit_now(code: int) -> NoReturn:
    """Exit without waiting for threads or child processes; flush the log first."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)
