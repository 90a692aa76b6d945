"""Triggers the repository's scans: at an interval and on request, in a thread of its own.

A scan costs a few system calls per file. New versions are loaded in the same thread, so scans never overlap.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from cifar10_serving.schemas import ReloadReport
from service.errors import UnavailableError, stopping
from service.registry.repository import ModelRepository

THREAD_NAME: Final = "watcher"
NICENESS: Final = 10
"""Loading a version takes a core for a moment; requests come first. At 5 their p99 during loading was a little over
twice the normal one, at 10 it is 1.7 times: `python -m scripts.reload_under_load`."""
STOP_LIMIT_S: Final = 1.0

logger = logging.getLogger(__name__)


class Watcher:
    """Makes a repository follow its folder, from `start` to `stop`.

    Args:
        interval_s: time between two scans, in seconds; 0: only on request.
    """

    def __init__(self, repository: ModelRepository, interval_s: float) -> None:
        self._repository = repository
        self._interval_s = interval_s or None
        self._changed = threading.Condition()
        self._waiting: list[Future[ReloadReport]] = []
        self._stopped = False
        self._first: Future[None] | None = None
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)

    def start(self) -> None:
        """Start; earlier requests are handled first."""
        self._thread.start()

    def start_loading(self) -> "Future[None]":
        """Start with loading the selected versions; the future is done when that is finished."""
        self._first = Future()
        self._thread.start()
        return self._first

    def stop(self, timeout_s: float = STOP_LIMIT_S) -> None:
        """Stop, abandoning the current work; wait no longer than this."""
        self._repository.stop_loading()
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._answer(self._take(), stopping())

    def scan_now(self) -> "Future[ReloadReport]":
        """Scan at once and retry failed versions; the future is done when everything is loaded. Thread-safe."""
        future: Future[ReloadReport] = Future()
        with self._changed:
            self._waiting.append(future)
            self._changed.notify()
        return future

    def _run(self) -> None:
        if self._first is not None:
            _do(self._first, self._repository.load_all)
        _step_back()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped, self._interval_s)
                if self._stopped:
                    return
            asked = self._take()
            try:
                self._answer(asked, self._repository.refresh(retry_failed=bool(asked)))
            except UnavailableError as error:  # the service is stopping
                self._answer(asked, error)
            except Exception as error:  # the next scan may succeed
                logger.exception("checking for new versions failed")
                self._answer(asked, error)

    def _take(self) -> "list[Future[ReloadReport]]":
        with self._changed:
            waiting, self._waiting = self._waiting, []
            return waiting

    def _answer(self, asked: "list[Future[ReloadReport]]", outcome: ReloadReport | Exception) -> None:
        for future in asked:
            if not future.set_running_or_notify_cancel():  # the caller has gone
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


def _do(future: "Future[None]", call: Callable[[], None]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        call()
    except Exception as error:  # noqa: BLE001  # raised by the future's result()
        future.set_exception(error)
    else:
        future.set_result(None)


def _step_back() -> None:
    """Lower this thread's priority, if the system supports it per thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
