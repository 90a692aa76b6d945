from pathlib import Path

import pytest

from bench.binary_infer import binary_infer
from bench.errors import BenchError
from bench.processes import Running
from cifar10_serving.artifacts.layout import version_folder
from tests.conftest import MODELS, newest_version
from tests.e2e.server import running_server
from tests.version_copies import publish_copy

pytestmark = pytest.mark.slow


def test_client_service_and_runtime_times_are_of_the_same_requests(tmp_path: Path) -> None:
    (tmp_path / "sequential").mkdir()
    publish_copy(tmp_path, 1)
    folder = version_folder(MODELS, "sequential", newest_version("sequential"))
    log = tmp_path / "server.log"
    with running_server(log, CIFAR10_MODELS=str(tmp_path)) as server:
        process = Running(server.process, int(server.url.rpartition(":")[2]), 0.0, log)  # type: ignore[arg-type]
        seen = binary_infer(process, "sequential", folder, seconds=0.3)
        with pytest.raises(BenchError, match="404"):
            binary_infer(process, "vgg16", folder, seconds=0.1)
    assert seen.requests > 1
    assert 0 < seen.runtime_ms < seen.service_ms < seen.client_ms
