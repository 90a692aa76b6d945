"""This process from its start to its end: memory, reloads by SIGHUP, and the shutdown.

Memory: glibc maps large blocks separately and unmaps them when they are freed, so the kernel clears every page of every
decoded photo again. Blocks below the threshold here stay in the heap instead. Larger ones, such as most weights and the
pixels of huge images, go back at once; `return_free_memory` returns the rest after a version is loaded or unloaded.
https://man7.org/linux/man-pages/man3/mallopt.3.html, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD

SIGHUP reloads the models; or it stops the service, if the terminal was closed. The supervisor of several workers
forwards the signal to all of them, and a worker may ask it to.

Shutdown: a signal requests it: readiness fails, and requests are still accepted (lame duck). Then it begins: HTTP and
gRPC drain at the same time. `service.process.server` controls the phases; uvicorn drains HTTP.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from enum import Enum, auto
from multiprocessing import parent_process
from types import FrameType
from typing import Final, NoReturn

from cifar10_serving.runtimes.machine import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, set_malloc
from service.registry.watcher import Watcher

MMAP_THRESHOLD_BYTES: Final = 2**20
"""Above the size of a photo as it is decoded: a JPEG of 12 megapixels takes 0.6 MB at an eighth of its size."""
TRIM_THRESHOLD_BYTES: Final = 8 * 2**20
"""Free memory at the end of each heap that is kept; every thread may have a heap of its own."""
YOUNG_OBJECTS: Final = 20_000
"""Number of new objects before a collection. Python's default of 700 is reached by a few requests in flight."""

SWITCH_INTERVAL_S: Final = 0.0005

logger = logging.getLogger(__name__)


def configure_malloc() -> bool:
    """Set glibc's thresholds, which otherwise change with use; return whether the C library has them."""
    return set_malloc({M_MMAP_THRESHOLD: MMAP_THRESHOLD_BYTES, M_TRIM_THRESHOLD: TRIM_THRESHOLD_BYTES})


def freeze_gc() -> None:
    """Exclude all current objects from later collections, and collect less often; call it before serving.

    Requests leave no reference cycles, so reference counting frees them. Cycles left by errors are still collected.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


def share_interpreter() -> None:
    """Let threads take turns in Python code ten times as often as by default.

    The event loop waits for the interpreter up to this long whenever a thread computes in Python, as loading a version
    does. `python -m scripts.reload_under_load` measures the effect.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def reload_on_sighup(watcher: Watcher) -> None:
    """Handle SIGHUP in the running event loop; no effect outside the main thread or on Windows."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
        return
    had_terminal = has_terminal()
    loop = asyncio.get_running_loop()

    def on_sighup() -> None:
        if had_terminal and not has_terminal():
            logger.info("the terminal was closed; stopping")
            os.kill(os.getpid(), signal.SIGTERM)
            return
        logger.info("SIGHUP: checking for new versions")
        watcher.scan_now()

    def handle(_signal: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
            loop.call_soon_threadsafe(on_sighup)

    # Not the loop's own add_signal_handler: when the loop closes, it resets SIGHUP, which would then kill this process.
    signal.signal(signal.SIGHUP, handle)


class Group(Enum):
    """The processes that answer for the same service.

    A process that is not alone begins to accept connections when its models are loaded: until then the others take the
    requests. It rejects changes that would affect only itself.
    """

    ALONE = auto()
    WORKERS = auto()
    """Processes of one machine, with a supervisor."""
    REPLICAS = auto()
    """Instances of a cluster, on one machine or several."""

    @classmethod
    def of_this_process(cls) -> "Group":
        """Return the group of a process that is no replica of a cluster."""
        return cls.WORKERS if is_worker() else cls.ALONE


def is_worker() -> bool:
    """Return whether this process is one of several workers."""
    return parent_process() is not None


def broadcast_reload() -> None:
    """Make all workers check for new versions; no effect with a single process."""
    if is_worker():
        os.kill(os.getppid(), signal.SIGHUP)


def has_terminal() -> bool:
    """Return whether this process has a terminal that is still open."""
    try:
        return sys.stdin is not None and os.isatty(sys.stdin.fileno())
    except (OSError, ValueError):  # closed, or an object without a file behind it, as in a notebook
        return False


class Stop:
    """The state of the shutdown of this process; used from one event loop, once that runs."""

    def __init__(self) -> None:
        self._is_draining = asyncio.Event()
        self.is_requested = False
        """True once a shutdown is requested: readiness fails, and answers announce that their connection closes."""
        self.is_forced = False
        """True after a second signal: the shutdown waits for nothing."""

    @property
    def reason(self) -> str | None:
        """The reason for not being ready; None if no shutdown is requested."""
        return "the service is stopping" if self.is_requested else None

    def request(self) -> None:
        """Request the shutdown; safe in a signal handler."""
        self.is_requested = True

    def begin(self, *, forced: bool = False) -> None:
        """Begin to drain: accept no new requests, and answer the pending ones."""
        self.is_requested = True
        self.is_forced = self.is_forced or forced
        self._is_draining.set()

    async def wait_until_draining(self) -> None:
        """Wait until draining begins."""
        await self._is_draining.wait()


def exit_within(seconds: float, code: int = 0) -> None:
    """Exit within this time, whatever hangs; an earlier deadline that was set before still holds.

    A thread does this, because the event loop and the interpreter's exit both wait for every thread of a pool, even for
    one that reads from an unresponsive disk.
    """

    def end() -> None:
        logger.warning("stopped; unfinished work was abandoned")
        exit_now(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def exit_now(code: int) -> NoReturn:
    """Exit without waiting for threads or child processes; flush the log first."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)
