"""One real server process for all tests of the client."""

from collections.abc import Iterator

import pytest

from cifar10_serving.client import Client
from tests.e2e.server import Server, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server") / "log") as started:
        yield started


@pytest.fixture(scope="session")
def service(server: Server) -> Iterator[Client]:
    """Yield a client of the real server."""
    with Client(server.url) as ready:
        yield ready
