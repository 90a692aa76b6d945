"""Supervisor of several worker processes on the same listening sockets: starts, watches, replaces and stops them.

`service.process.server` is one such process. They share the sockets, the numbers of their connections
(`service.process.balance`) and the reports of their telemetry (`service.telemetry.reports`), nothing else; each holds
the models in its own memory.

uvicorn's own supervisor (`uvicorn.supervisors.Multiprocess`) is not enough here. A thread answers its health checks, so
a worker whose event loop hangs looks healthy; it checks one worker after the other and handles no signal meanwhile; it
restarts a crashing worker at once, without backoff; and SIGHUP restarts workers instead of reloading models. When it
stops, it waits for its workers without a limit, ignores a second signal, and keeps the listening sockets open, so that
connections still queued there are lost. If it is killed, its workers stay.
"""

import contextlib
import logging
import math
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Final

from service.process.balance import NOT_SERVING, ConnectionBalance
from service.process.lifecycle import exit_now, has_terminal
from service.process.server import COULD_NOT_START, LAST_GRACE_S, SAME_STOP_S, WorkerPart, run_server
from service.settings import Settings
from service.telemetry.logs import configure_logging
from service.telemetry.reports import FOLDER_VARIABLE, SharedReports

LOOK_EVERY_S: Final = 0.5
MAX_COUNTED_S: Final = 1.0
"""Maximum silence counted for one pause: in a longer one the supervisor itself was busy or suspended."""
START_TIMEOUT_S: Final = 120.0
"""Time-out for a worker's first heartbeat: it may load its code from a slow disk."""
RESTART_AFTER_S: Final = 1.0
MAX_RESTART_AFTER_S: Final = 30.0
STABLE_AFTER_S: Final = 60.0
"""A worker that has lived this long is not in a crash loop."""
KILL_AFTER_S: Final = LAST_GRACE_S + 1.0
"""Time after the grace period before a worker is killed."""
SERVING: Final = b"r"
STARTING: Final = b"s"

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Worker:
    """One process, and the time without a heartbeat, counted only while the supervisor was running."""

    process: SpawnProcess
    place: int
    beats: "connection.Connection | None"
    started_s: float
    silent_s: float = 0.0
    has_beaten: bool = False


class Supervisor:
    """Runs `settings.workers` processes on the same sockets.

    Args:
        sockets: the sockets that the workers share.
    """

    def __init__(self, settings: Settings, sockets: Sequence[socket.socket]) -> None:
        self._settings = settings
        self._sockets = list(sockets)
        self._workers: list[_Worker] = []
        self._counts: MutableSequence[int] = get_context("spawn").RawArray("i", [NOT_SERVING] * settings.workers)
        self._restarts_s: list[float] = []
        """Times at which replacements are started."""
        self._failures = 0
        self._has_served = False
        self._had_terminal = has_terminal()
        self._signals: list[int] = []
        self._stopped_s: float | None = None
        self._kill_at_s = math.inf
        self._code = 0
        self._waking, self._woken = socket.socketpair()

    def run(self) -> int:
        """Serve until a signal; return 0 after a shutdown, 2 if no worker could start."""
        configure_logging(self._settings.log_level, self._settings.log_format)
        for end in (self._waking, self._woken):
            end.setblocking(False)
        signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note_signal)
        with tempfile.TemporaryDirectory(prefix="cifar10-workers-", ignore_cleanup_errors=True) as folder:
            os.environ[FOLDER_VARIABLE] = folder
            self._reports = SharedReports(Path(folder))
            self._restarts_s = [0.0] * self._settings.workers
            self._supervise()
        return self._code

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        # Handled by the loop only: at this moment a worker might be starting that is in no list yet.
        self._signals.append(number)

    def _supervise(self) -> None:
        last_s = time.monotonic()
        while self._workers or (self._restarts_s and self._stopped_s is None):
            self._start_due()
            self._wait()
            now_s = time.monotonic()
            while self._signals:
                self._act_on(self._signals.pop(0))
            self._reap()
            self._listen_to_hearts(min(now_s - last_s, MAX_COUNTED_S))
            last_s = now_s
            if now_s > self._kill_at_s:
                self._kill_at_s = now_s + LOOK_EVERY_S
                self._signal_all(signal.SIGKILL)

    def _wait(self) -> None:
        hearts = [worker.beats for worker in self._workers if worker.beats is not None]
        sentinels = [worker.process.sentinel for worker in self._workers]
        next_s = min([*self._restarts_s, self._kill_at_s]) - time.monotonic()
        connection.wait([*hearts, *sentinels, self._woken], timeout=max(0.0, min(LOOK_EVERY_S, next_s)))
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)

    def _start_due(self) -> None:
        for due_s in sorted(self._restarts_s):
            if self._signals or self._stopped_s is not None or due_s > time.monotonic():
                return
            self._restarts_s.remove(due_s)
            taken = {worker.place for worker in self._workers}
            place = min(set(range(self._settings.workers)) - taken)
            self._workers.append(_start(self._settings, self._sockets, self._counts, place))

    def _reap(self) -> None:
        for worker in [worker for worker in self._workers if worker.process.exitcode is not None]:
            self._workers.remove(worker)
            if worker.beats is not None:
                worker.beats.close()
            self._reports.mark_process_dead(worker.process.pid or 0)
            ConnectionBalance(self._counts, worker.place).withdraw()
            if self._stopped_s is not None:
                continue
            if worker.process.exitcode == COULD_NOT_START and not self._has_served:
                self._code = COULD_NOT_START
                self._stop()
            else:
                self._replace(worker)

    def _replace(self, worker: _Worker) -> None:
        code, lived_s = worker.process.exitcode or 0, time.monotonic() - worker.started_s
        self._failures = 0 if code == 0 or lived_s >= STABLE_AFTER_S else self._failures + 1
        delay_s = min(MAX_RESTART_AFTER_S, RESTART_AFTER_S * 2 ** max(0, self._failures - 1))
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        logger.error(
            "worker %d %s after %.1f s; restarting in %g s%s",
            *(worker.process.pid, how, lived_s, delay_s),
            f" ({self._failures} failures in a row)" if self._failures > 1 else "",
        )
        self._restarts_s.append(time.monotonic() + delay_s)

    def _listen_to_hearts(self, elapsed_s: float) -> None:
        for worker in self._workers:
            worker.silent_s += elapsed_s
            beats = _read(worker)
            if beats:
                worker.silent_s, worker.has_beaten = 0.0, True
                self._has_served = self._has_served or SERVING in beats
            limit_s = self._settings.worker_timeout_s
            if not worker.has_beaten:
                limit_s = max(limit_s, START_TIMEOUT_S)
            if self._settings.worker_timeout_s and self._stopped_s is None and worker.silent_s > limit_s:
                logger.error("worker %d is hung: no heartbeat for %.0f s; killing it", worker.process.pid, limit_s)
                worker.silent_s = -math.inf
                worker.process.kill()

    def _act_on(self, number: int) -> None:
        if number != signal.SIGHUP or (self._had_terminal and not has_terminal()):
            self._stop()
        elif self._stopped_s is None:
            self._signal_all(signal.SIGHUP)

    def _stop(self) -> None:
        """Stop every worker; the second time, at once."""
        now_s = time.monotonic()
        if self._stopped_s is None:
            self._stopped_s = now_s
            self._kill_at_s = (
                now_s + self._settings.lame_duck_s + self._settings.graceful_shutdown_timeout_s + KILL_AFTER_S
            )
            for listening in self._sockets:  # the workers accept what is queued there and close it last
                listening.close()
            self._signal_all(signal.SIGTERM)
        elif now_s - self._stopped_s >= SAME_STOP_S:
            self._kill_at_s = min(self._kill_at_s, now_s + KILL_AFTER_S)
            self._signal_all(signal.SIGINT)

    def _signal_all(self, number: int) -> None:
        for worker in self._workers:
            if worker.process.pid is not None and worker.process.is_alive():
                os.kill(worker.process.pid, number)


def _start(settings: Settings, sockets: list[socket.socket], counts: MutableSequence[int], place: int) -> _Worker:
    context = get_context("spawn")
    beats, beating = context.Pipe(duplex=False)
    os.set_blocking(beats.fileno(), False)
    process = context.Process(target=_work, args=(settings, sockets, beating, counts, place), name="worker")
    # Until the process has a session of its own, Ctrl-C in the terminal reaches it as well; and until it handles
    # SIGHUP, that would kill it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    process.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    beating.close()
    return _Worker(process, place, beats, time.monotonic())


def _read(worker: _Worker) -> bytes:
    """Return the heartbeats since the last call."""
    if worker.beats is None:
        return b""
    try:
        beats = os.read(worker.beats.fileno(), 4096)
    except BlockingIOError:
        return b""
    if not beats:  # the process has closed its end: it is exiting, and its sentinel will report it
        worker.beats.close()
        worker.beats = None
    return beats


def _work(
    settings: Settings,
    sockets: list[socket.socket],
    beating: "connection.Connection",
    counts: MutableSequence[int],
    place: int,
) -> None:
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop_before_serving)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGHUP})
    longest_stop_s = settings.lame_duck_s + settings.graceful_shutdown_timeout_s + KILL_AFTER_S
    threading.Thread(target=_end_with_supervisor, args=(longest_stop_s,), daemon=True).start()
    os.set_blocking(beating.fileno(), False)

    def beat(is_serving: bool) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # the supervisor is suspended, or has gone
            os.write(beating.fileno(), SERVING if is_serving else STARTING)

    sys.exit(run_server(settings, sockets, WorkerPart(beat, ConnectionBalance(counts, place))))


def _stop_before_serving(_signal: int, _frame: FrameType | None) -> None:
    os._exit(0)  # not sys.exit: a library that is being imported may turn SystemExit into an error of its own


def _end_with_supervisor(longest_stop_s: float) -> None:
    """Stop this worker when the supervisor ends in any way, so that the port is free again."""
    supervisor = parent_process()
    if supervisor is not None:
        connection.wait([supervisor.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(longest_stop_s)
        exit_now(1)
