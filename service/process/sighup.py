"""SIGHUP: reload the models; or stop, if the terminal was closed.

The supervisor of several workers forwards the signal to all of them, and a worker may ask it to.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from multiprocessing import parent_process
from types import FrameType

from service.registry.watcher import Watcher

logger = logging.getLogger(__name__)


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
