import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import UnavailableError
from service.registry.repository import ModelRepository
from service.registry.watcher import Watcher
from tests.fakes import FakeRuntime
from tests.version_copies import publish_copy
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def repository(one_model: Path) -> ModelRepository:
    repository = ModelRepository(one_model, FakeRuntime())
    repository.load_all()
    return repository


@pytest.fixture
def idle(repository: ModelRepository) -> Iterator[Watcher]:
    """A watcher that looks only when told to."""
    watcher = Watcher(repository, 0)
    yield watcher
    watcher.stop()


def test_new_version_is_seen_at_the_interval(one_model: Path, repository: ModelRepository) -> None:
    others = set(threading.enumerate())
    watcher = Watcher(repository, 0.02)
    watcher.start()
    publish_copy(one_model, 2)
    wait_until(lambda: repository.find("sequential").version == 2)
    watcher.stop()
    wait_until(lambda: set(threading.enumerate()) <= others)
    publish_copy(one_model, 3)
    assert repository.find("sequential").version == 2


def test_look_that_was_asked_for_tells_what_it_changed(
    one_model: Path, repository: ModelRepository, idle: Watcher
) -> None:
    idle.start()
    publish_copy(one_model, 2)
    time.sleep(0.1)
    assert repository.find("sequential").version == 1
    asked = [idle.scan_now() for _ in range(3)]
    reports = [future.result(PATIENCE_S) for future in asked]
    assert [entry.version for entry in reports[0].loaded] == [2]
    assert repository.find("sequential").version == 2


def test_what_is_asked_for_before_the_start_is_done_at_the_start(one_model: Path, idle: Watcher) -> None:
    publish_copy(one_model, 2)
    asked = idle.scan_now()
    idle.start()
    assert [entry.version for entry in asked.result(PATIENCE_S).loaded] == [2]


def test_who_asks_a_stopped_watcher_is_told(idle: Watcher) -> None:
    asked = idle.scan_now()
    idle.stop()
    with pytest.raises(UnavailableError, match=r"the service is stopping"):
        asked.result(0)
