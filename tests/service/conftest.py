"""Fixtures for the tests of the service."""

import asyncio
from collections.abc import Iterator

import pytest
import uvloop


@pytest.fixture(params=["asyncio", "uvloop"])
def both_event_loops(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on each event loop: the service uses uvloop if available, and uvloop's timers differ."""
    kind = str(request.param)
    if kind == "uvloop":
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    yield kind
    asyncio.set_event_loop_policy(None)
