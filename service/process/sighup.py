"""SIGHUP: the operator's sign to look for new versions, unless it says that the terminal has gone, which stops.

The supervisor of several workers passes it on to all of them, and one of them may ask it to.
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
    """Handle SIGHUP in the running event loop; without effect in another thread than the main one, or on Windows."""
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

    # Not the loop's own add_signal_handler: when the loop closes, that has SIGHUP kill a process that is ending well.
    signal.signal(signal.SIGHUP, handle)


def is_worker() -> bool:
    """Whether this process is one of several that serve together."""
    return parent_process() is not None


def broadcast_reload() -> None:
    """Have all workers look for new versions; without effect where there is one process."""
    if is_worker():
        os.kill(os.getppid(), signal.SIGHUP)


def has_terminal() -> bool:
    """Whether this process was started in a terminal that is still there."""
    try:
        return sys.stdin is not None and os.isatty(sys.stdin.fileno())
    except (OSError, ValueError):  # closed, or an object without a file behind it, as in a notebook
        return False
