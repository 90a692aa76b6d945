"""Several processes that serve one listening socket: started, replaced when one dies, and signalled together.

What each of them does is `service.server`'s part. They share nothing but the socket and the files of the metrics
(`service.shared_metrics`); each has the models in its own memory.
"""

import logging
import logging.config
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Final

from service.hangup import has_terminal
from service.logging import logging_config
from service.server import COULD_NOT_START, run_server
from service.settings import Settings
from service.shared_metrics import FOLDER_VARIABLE, forget_process

LOOK_EVERY_S: Final = 0.2
RESTART_AFTER_S: Final = 1.0
LAST_GRACE_S: Final = 5.0
"""What a worker gets beyond its own grace time before it is killed."""

logger = logging.getLogger(__name__)


class Supervisor:
    """Runs `settings.workers` processes on one socket.

    Args:
        listening: whose connections they share out.
    """

    def __init__(self, settings: Settings, listening: socket.socket) -> None:
        self._settings = settings
        self._listening = listening
        self._workers: list[SpawnProcess] = []
        self._had_terminal = has_terminal()
        self._stopping = False
        self._kill_at_s = 0.0

    def run(self) -> int:
        """Serve until a signal; 0 after a stop, 2 where a worker could not start."""
        logging.config.dictConfig(logging_config(self._settings.log_level))
        for stop_signal in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stop_signal, self._stop)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._hang_up)
        with tempfile.TemporaryDirectory(prefix="cifar10-metrics-") as folder:
            os.environ[FOLDER_VARIABLE] = folder
            self._workers = [_start(self._settings, self._listening) for _ in range(self._settings.workers)]
            return self._watch()

    def _watch(self) -> int:
        code = 0
        while self._workers:
            connection.wait([worker.sentinel for worker in self._workers], timeout=LOOK_EVERY_S)
            for worker in [worker for worker in self._workers if worker.exitcode is not None]:
                self._workers.remove(worker)
                forget_process(worker.pid or 0)
                if worker.exitcode == COULD_NOT_START:
                    code = COULD_NOT_START
                    self._stop()
                elif not self._stopping:
                    logger.error("worker %d ended with %d; another takes its place", worker.pid, worker.exitcode)
                    time.sleep(RESTART_AFTER_S)
                    self._workers.append(_start(self._settings, self._listening))
            if self._stopping and time.monotonic() > self._kill_at_s:
                self._signal_all(signal.SIGKILL)
        return code

    def _stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Have every worker stop; a second time, at once."""
        if not self._stopping:
            self._kill_at_s = time.monotonic() + self._settings.shutdown_grace_s + LAST_GRACE_S
        self._stopping = True
        self._signal_all(signal.SIGTERM)

    def _hang_up(self, _signal: int, _frame: FrameType | None) -> None:
        """Have every worker look for new versions; stop if the terminal has gone."""
        if self._had_terminal and not has_terminal():
            self._stop()
        else:
            self._signal_all(signal.SIGHUP)

    def _signal_all(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid is not None and worker.is_alive():
                os.kill(worker.pid, number)


def _start(settings: Settings, listening: socket.socket) -> SpawnProcess:
    worker = get_context("spawn").Process(target=_work, args=(settings, listening), name="worker")
    # Until it is in a session of its own, Ctrl-C in the terminal reaches it, too.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    worker.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return worker


def _work(settings: Settings, listening: socket.socket) -> None:
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    sys.exit(run_server(settings, listening))


def _end_with_supervisor() -> None:
    """However the supervisor ends, no worker stays and holds the port."""
    supervisor = parent_process()
    if supervisor is not None:
        connection.wait([supervisor.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
