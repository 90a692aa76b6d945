"""The moment at which a stop begins, told to whoever serves beside uvicorn, so that everything drains at once.

`service.server` says when; uvicorn itself drains HTTP.
"""

import asyncio


class Stop:
    """A stop of this process. Used from one event loop, once that runs."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self.is_forced = False
        """Whether nobody is waited for any longer: a second signal."""

    def begin(self, *, forced: bool = False) -> None:
        """Take no more requests, and answer those that there are."""
        self.is_forced = self.is_forced or forced
        self._begun.set()

    async def begun(self) -> None:
        """Wait until it begins."""
        await self._begun.wait()
