import threading
import time
from pathlib import Path

from service.registry.version import ModelVersion


def test_unloading_waits_for_the_last_lease() -> None:
    entry = ModelVersion("sequential", 1, Path(), ())
    assert entry.acquire()
    assert entry.acquire()
    entry.retire()
    assert not entry.acquire()
    assert not entry.wait_until_unused(0.01)
    threading.Timer(0.05, entry.release).start()
    entry.release()
    start_s = time.monotonic()
    assert entry.wait_until_unused(10)
    assert time.monotonic() - start_s < 5


def test_nothing_in_use_is_unused_at_once() -> None:
    assert ModelVersion("sequential", 1, Path(), ()).wait_until_unused(0)
