"""Fixtures for the tests of the service."""

import pytest


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Run coroutines on each event loop: the service uses uvloop if available, and uvloop's timers differ."""
    return "asyncio", {"use_uvloop": request.param}
