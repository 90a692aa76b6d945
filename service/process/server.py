"""One serving process: the application in uvicorn, signals, and the exit code.

`service.process.serve` opens the sockets; `service.process.workers` runs several such processes.
"""

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Final, NoReturn, cast

import uvicorn

from cifar10_serving.errors import ProjectError
from service.app import open_service
from service.images.decoding import THREAD_NAME_PREFIX as DECODE_THREADS
from service.inference.scheduler import THREAD_NAME_PREFIX as COMPUTE_THREADS
from service.process.balance import BalancedAccept, ConnectionBalance
from service.process.lifecycle import Stop, exit_now, exit_within, freeze_gc, is_worker, share_interpreter
from service.settings import Settings
from service.telemetry.logs import configure_logging

COULD_NOT_START: Final = 2
BACKLOG: Final = 2048
"""Number of connections that the kernel queues until they are accepted."""
ACCEPTS_ALONE: Final = 128
ACCEPTS_SHARED: Final = 4
"""Limit for processes that share the socket, so that one doesn't take all new connections."""
LAST_REQUEST_S: Final = 0.5
"""Time for which a shutdown keeps an idle connection open, because a request may be on its way."""
SAME_STOP_S: Final = 0.5
"""Signals within this time mean the same shutdown: a terminal and a service manager signal each process."""
LAST_WORK_S: Final = 0.5
LAST_GRACE_S: Final = 2.0
"""Time after the grace period in which a shutdown ends the remaining work."""
MAX_OPEN_FILES: Final = 65_536

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerPart:
    """A worker's heartbeat, called with whether connections are accepted, and its share of new connections."""

    beat: Callable[[bool], None]
    balance: ConnectionBalance


class _Server(uvicorn.Server):
    """uvicorn's server with a graceful shutdown: it fails readiness, accepts waiting connections, and then closes.

    Args:
        config: uvicorn's configuration.
        stop: notified of each phase.
        settings: the shutdown's times.
        worker: the part of a worker among several; None for the only process.
    """

    def __init__(self, config: uvicorn.Config, stop: Stop, settings: Settings, worker: WorkerPart | None) -> None:
        super().__init__(config)
        self._stop = stop
        self._settings = settings
        self._worker = worker
        self._balanced = (
            BalancedAccept(worker.balance, self._open_connections, self._accept_one) if worker is not None else None
        )
        self._beating: asyncio.Task[None] | None = None
        self._first_signal_s = 0.0
        self._opening: set[asyncio.Task[object]] = set()

    def accept_more_from(self, sockets: Sequence[socket.socket], max_accepts: int) -> None:
        """Accept waiting connections, up to `max_accepts` per socket; called in each tick of a busy event loop.

        libuv itself accepts one per tick. Under load a tick takes ten milliseconds, so connections would wait for
        seconds before their requests could be read and rejected.
        """
        for listening in sockets:
            if self._balanced is not None:
                self._balanced.take(listening, max_accepts)
                continue
            for _ in range(max_accepts):
                if not self._accept_one(listening):
                    break

    def _open_connections(self) -> int:
        return len(self.server_state.connections) + len(self._opening)

    def _accept_one(self, listening: socket.socket) -> bool:
        """Accept a connection; return False if none is waiting."""
        try:
            connection, _address = listening.accept()
        except OSError as error:  # none is waiting, no descriptor is left, or a shutdown has closed the socket
            return error.errno == errno.ECONNABORTED  # this client has gone; try the next one
        opening = asyncio.get_running_loop().create_task(self._serve_connection(connection))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
        return True

    async def _serve_connection(self, connection: socket.socket) -> None:
        protocol = partial(
            cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        with contextlib.suppress(OSError):  # the client has gone
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's signature
        """Request a shutdown; the second time, one that waits for nothing."""
        now_s = time.monotonic()
        if not self.should_exit:
            self._first_signal_s = now_s
            exit_within(self._settings.lame_duck_s + self._settings.graceful_shutdown_timeout_s + LAST_GRACE_S)
        # A service manager may send SIGTERM to a worker as well as to its supervisor, which sends SIGINT as a second
        # signal.
        elif now_s - self._first_signal_s >= SAME_STOP_S and (sig == signal.SIGINT or not is_worker()):
            self.force_exit = True
        self._stop.request()
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start; a worker has a heartbeat from now on, and shares new connections with the others."""
        if self._worker is None or self._balanced is None:
            await super().startup(sockets)
            return
        self._beating = asyncio.create_task(self._keep_beating(self._worker.beat))
        await super().startup([])
        self._balanced.start(sockets or [])

    async def _keep_beating(self, beat: Callable[[bool], None]) -> None:
        every_s = min(1.0, self._settings.worker_timeout_s / 4 or 1.0)
        while True:
            beat(self.started)
            await asyncio.sleep(every_s)

    async def main_loop(self) -> None:
        """Serve until a signal, then continue as a lame duck: answering, but not ready."""
        await super().main_loop()
        end_s = time.monotonic() + self._settings.lame_duck_s
        if self._settings.lame_duck_s:
            logger.info(
                "shutting down in %g s; until then, not ready but still answering requests", self._settings.lame_duck_s
            )
        while time.monotonic() < end_s and not self.force_exit:
            await self.on_tick(0)
            await asyncio.sleep(0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept waiting connections, close the sockets, answer pending requests, and shut down the application."""
        self._stop.begin()
        if self._balanced is not None:
            self._balanced.stop()
            self._balanced = None  # those that wait are all accepted now
        listening = sockets or []
        self.accept_more_from(listening, BACKLOG)
        for server in self.servers:
            server.close()
        for each in listening:
            each.close()
        if self._opening:  # this takes a moment on a busy event loop, and uvicorn waits only for open connections
            await asyncio.wait(self._opening, timeout=self._settings.graceful_shutdown_timeout_s)
        tidying = [asyncio.create_task(each) for each in (self._close_idle_connections(), self._keep_date())]
        await super().shutdown(sockets)
        if self.force_exit:
            self._stop.begin(forced=True)
            await self.lifespan.shutdown()
        for task in tidying:
            task.cancel()
        if self._beating is not None:
            self._beating.cancel()
        exit_within(LAST_GRACE_S)

    async def _close_idle_connections(self) -> None:
        """Close idle connections, after a moment for requests that are on their way."""
        await asyncio.sleep(min(LAST_REQUEST_S, self._settings.graceful_shutdown_timeout_s))
        while True:
            for connection in list(self.server_state.connections):
                if hasattr(connection, "close_if_idle"):  # uvicorn's own protocols close at once
                    connection.close_if_idle()
            await asyncio.sleep(0.1)

    async def _keep_date(self) -> None:
        """Keep the header `Date` current during a shutdown."""
        while True:
            await self.on_tick(0)
            await asyncio.sleep(1)


def run_server(settings: Settings, sockets: Sequence[socket.socket], worker: WorkerPart | None = None) -> int:
    """Serve until a signal; exit with 0 after a shutdown, or return 2 if the service could not start.

    Args:
        sockets: the sockets to accept connections on.
        worker: the part of a worker among several; None for the only process.
    """
    configure_logging(settings.log_level, settings.log_format)
    try:
        service = open_service(settings)
        protocol = service.http_protocol()
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return COULD_NOT_START
    server = _Server(
        uvicorn.Config(
            service.application,
            http=protocol,
            timeout_graceful_shutdown=settings.graceful_shutdown_timeout_s,
            access_log=False,
            proxy_headers=False,  # service.http.forwarding handles them
            log_config=None,
            server_header=False,
        ),
        service.stop,
        settings,
        worker,
    )
    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop_signal, server.handle_exit)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    logger.info("listening on http://%s:%d; /docs lists the routes", host, settings.port)
    max_accepts = ACCEPTS_ALONE if worker is None else ACCEPTS_SHARED
    for listening in sockets:
        listening.setblocking(False)
    service.backlog.on_tick = partial(server.accept_more_from, sockets, max_accepts)
    _raise_limit_of_open_files()
    freeze_gc()
    share_interpreter()
    with contextlib.suppress(SystemExit):  # raised by uvicorn if the application doesn't start; it has logged why
        server.run(sockets=list(sockets))
    if server.started:
        _exit_despite_stuck_work()
    return COULD_NOT_START


def _raise_limit_of_open_files() -> None:
    """Raise the limit of open files to the system's maximum; the default of shells is meant for other programs."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # the actual limit is lower than reported
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _exit_despite_stuck_work() -> NoReturn:
    """Exit without waiting for threads and child processes, for which Python would wait even if they hang."""
    threads = [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread()
        and (not thread.daemon or thread.name.startswith((DECODE_THREADS, COMPUTE_THREADS)))
    ]
    deadline_s = time.monotonic() + LAST_WORK_S
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        logger.warning("stopped; unfinished work was abandoned")
    exit_now(0)
