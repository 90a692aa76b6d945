"""Runs the application: settings, socket, logging, signals, exit code."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

import uvicorn

from catalog.errors import ProjectError
from service.app import create_app
from service.core.decoding import THREAD_NAME_PREFIX as DECODE_THREADS
from service.core.scheduler import THREAD_NAME_PREFIX as COMPUTE_THREADS
from service.errors import SettingsError
from service.logging import logging_config
from service.settings import read_settings, variable

BACKLOG = 2048
LAST_WORK_S = 0.5

logger = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Ends the application properly after a second signal, too, which uvicorn leaves to be cancelled."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()


def serve(arguments: Sequence[str]) -> int:
    """Serve until a signal; 0 after a stop, 2 where it could not start.

    Args:
        arguments: command-line flags.
    """
    try:
        settings = read_settings(arguments)
        listening = _listen(settings.host, settings.port, "port")
        if settings.grpc_port:  # gRPC's own server binds it later, and says less where it can't
            _listen(settings.host, settings.grpc_port, "grpc_port").close()
        app = create_app(settings)
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    server = _Server(
        uvicorn.Config(
            app,
            timeout_graceful_shutdown=settings.shutdown_grace_s,
            access_log=False,
            proxy_headers=False,  # nothing here depends on who asks
            log_config=logging_config(settings.log_level),
            server_header=False,
        )
    )
    # uvicorn raises the signals that it received once more when it has stopped; by then they mean nothing more.
    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop_signal, server.handle_exit)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    logger.info("listening on http://%s:%d, see /docs", host, settings.port)
    server.run(sockets=[listening])
    code = 0 if server.started else 2
    _end_in_spite_of_stuck_work(code)
    return code


def _listen(host: str, port: int, setting: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise SettingsError(
            f"can't listen on {host} port {port}: {reason}",
            expected="an address of this machine and a port that is free",
            remedy=f"change {variable('host')} or {variable(setting)}",
        ) from None


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
