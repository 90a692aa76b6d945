"""One process that serves: the application in uvicorn, its signals, its exit code.

Where it listens is `service.serve`'s part, several such processes are `service.supervisor`'s.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Literal, cast

import uvicorn

from catalog.errors import ProjectError
from service.app import create_app, open_backlog
from service.core.backlog import Backlog
from service.core.decoding import THREAD_NAME_PREFIX as DECODE_THREADS
from service.core.scheduler import THREAD_NAME_PREFIX as COMPUTE_THREADS
from service.logging import logging_config
from service.memory import collect_garbage_seldom
from service.middleware import FastLanes
from service.settings import Settings
from service.stopping import Stop

COULD_NOT_START = 2
ACCEPTS_ALONE = 128
ACCEPTS_SHARED = 4
"""Where several processes share the socket, so that one doesn't take all that come at once."""
LAST_WORK_S = 0.5

logger = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Tells when a stop begins, and ends the application after a second signal, too, which uvicorn leaves undone."""

    def __init__(self, config: uvicorn.Config, stop: Stop) -> None:
        super().__init__(config)
        self._stop = stop
        self._opening: set[asyncio.Task[object]] = set()

    def accept_more_from(self, listening: socket.socket, most: int) -> None:
        """Accept what waits, up to `most` connections; called in each turn of a busy event loop.

        By itself libuv accepts one in each turn. Under load a turn takes ten milliseconds: connections would wait for
        seconds before anything could read, and refuse, what they ask for.
        """
        loop = asyncio.get_running_loop()
        for _ in range(most):
            try:
                connection, _address = listening.accept()
            except OSError:  # none, or closed by a stop
                return
            opening = loop.create_task(self._serve_connection(connection))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _serve_connection(self, connection: socket.socket) -> None:
        protocol = partial(
            cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        with contextlib.suppress(OSError):  # the client has gone
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)

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
        backlog = open_backlog(settings)
        app = create_app(settings, stop, backlog)
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return COULD_NOT_START
    server = _Server(
        uvicorn.Config(
            app,
            http=_http_protocol(backlog, app),
            timeout_graceful_shutdown=settings.shutdown_grace_s,
            access_log=False,
            proxy_headers=False,  # service.forwarding does it
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
    most = ACCEPTS_ALONE if settings.workers == 1 else ACCEPTS_SHARED
    listening.setblocking(False)
    backlog.each_turn = partial(server.accept_more_from, listening, most)
    collect_garbage_seldom()
    server.run(sockets=[listening])
    code = 0 if server.started else COULD_NOT_START
    _end_in_spite_of_stuck_work(code)
    return code


def _http_protocol(backlog: Backlog, app: FastLanes) -> "type[asyncio.Protocol] | Literal['auto']":
    try:
        from service.http_protocol import protocol_with
    except ModuleNotFoundError:  # httptools, which Windows doesn't have
        return "auto"
    return protocol_with(backlog, app.direct, app.forwarding)


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
