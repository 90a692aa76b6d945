"""One process that serves: the application in uvicorn, its signals, its exit code.

Where it listens is `service.serve`'s part, several such processes are `service.supervisor`'s.
"""

import logging
import os
import signal
import socket
import sys
import threading
import time

import uvicorn

from catalog.errors import ProjectError
from service.app import create_app
from service.core.decoding import THREAD_NAME_PREFIX as DECODE_THREADS
from service.core.scheduler import THREAD_NAME_PREFIX as COMPUTE_THREADS
from service.logging import logging_config
from service.memory import collect_garbage_seldom
from service.settings import Settings
from service.stopping import Stop

COULD_NOT_START = 2
LAST_WORK_S = 0.5

logger = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Tells when a stop begins, and ends the application after a second signal, too, which uvicorn leaves undone."""

    def __init__(self, config: uvicorn.Config, stop: Stop) -> None:
        super().__init__(config)
        self._stop = stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stop.begin()
        await super().shutdown(sockets)
        if self.force_exit:
            self._stop.begin(forced=True)
            await self.lifespan.shutdown()


def run_server(settings: Settings, listening: socket.socket) -> int:
    """Serve until a signal; 0 after a stop, 2 where it could not start.

    Args:
        listening: the socket to accept connections on.
    """
    stop = Stop()
    try:
        app = create_app(settings, stop)
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return COULD_NOT_START
    server = _Server(
        uvicorn.Config(
            app,
            timeout_graceful_shutdown=settings.shutdown_grace_s,
            access_log=False,
            proxy_headers=False,  # nothing here depends on who asks
            log_config=logging_config(settings.log_level),
            server_header=False,
        ),
        stop,
    )
    # uvicorn raises the signals that it received once more when it has stopped; by then they mean nothing more.
    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop_signal, server.handle_exit)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    logger.info("listening on http://%s:%d, see /docs", host, settings.port)
    collect_garbage_seldom()
    server.run(sockets=[listening])
    code = 0 if server.started else COULD_NOT_START
    _end_in_spite_of_stuck_work(code)
    return code


def _end_in_spite_of_stuck_work(code: int) -> None:
    """Python would wait for a thread whose request was given up long ago; the grace time is over."""
    workers = [thread for thread in threading.enumerate() if thread.name.startswith((DECODE_THREADS, COMPUTE_THREADS))]
    deadline_s = time.monotonic() + LAST_WORK_S
    for worker in workers:
        worker.join(max(0.0, deadline_s - time.monotonic()))
    if any(worker.is_alive() for worker in workers):
        logger.warning("stopped with work under way that nobody waits for")
        logging.shutdown()
        os._exit(code)
