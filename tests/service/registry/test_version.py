import threading
from pathlib import Path

from service.registry.version import ModelVersion
from tests.waiting import PATIENCE_S


def test_unloading_waits_for_the_last_lease() -> None:
    entry = ModelVersion("sequential", 1, Path(), ())
    assert entry.acquire()
    assert entry.acquire()
    entry.retire()
    assert not entry.acquire()
    assert not entry.wait_until_unused(0.01)
    threading.Timer(0.05, entry.release).start()
    entry.release()
    assert entry.wait_until_unused(PATIENCE_S)


def test_nothing_in_use_is_unused_at_once() -> None:
    assert ModelVersion("sequential", 1, Path(), ()).wait_until_unused(0)
