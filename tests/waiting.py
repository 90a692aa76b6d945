"""Waiting for other threads and processes, independent of the machine's speed."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

PATIENCE_S: Final = 120.0
"""Far more than anything here takes; a test that waits longer has failed."""
LOOK_EVERY_S: Final = 0.005


def wait_until(condition: Callable[[], object], *, look_every_s: float = LOOK_EVERY_S) -> None:
    """Return once the condition holds; fail after `PATIENCE_S`."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {PATIENCE_S:g} s"
        time.sleep(look_every_s)


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop run until the condition holds; fail after `PATIENCE_S`."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {PATIENCE_S:g} s"
        await asyncio.sleep(LOOK_EVERY_S)


@dataclass
class ManualClock:
    """A clock to replace `time.monotonic`, which stands still until a test moves it."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s
