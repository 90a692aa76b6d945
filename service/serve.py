"""Starts the service: settings, the socket to listen on, and one process or several.

Serving is `service.server`'s part.
"""

import os
import socket
import sys
from collections.abc import Sequence
from typing import Final

from catalog.errors import ProjectError
from service.errors import SettingsError
from service.server import COULD_NOT_START, run_server
from service.settings import Settings, read_settings, variable
from service.supervisor import Supervisor

BACKLOG: Final = 2048


def serve(arguments: Sequence[str]) -> int:
    """Serve until a signal; 0 after a stop, 2 where it could not start.

    Args:
        arguments: command-line flags.
    """
    try:
        settings = read_settings(arguments)
        _check_workers(settings)
        listening = _listen(settings.host, settings.port, "port")
        if settings.grpc_port:  # gRPC's own server binds it later, and says less where it can't
            _listen(settings.host, settings.grpc_port, "grpc_port").close()
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return COULD_NOT_START
    if settings.workers == 1:
        return run_server(settings, listening)
    return Supervisor(settings, listening).run()


def _check_workers(settings: Settings) -> None:
    """Whether several processes may do what is asked.

    Raises:
        SettingsError: they would each take a GPU's memory.
    """
    if settings.workers > 1 and settings.device.startswith("gpu"):
        raise SettingsError(
            f"{variable('workers')} = {settings.workers} with device {settings.device}",
            expected="1: one process owns a GPU",
            remedy=f"set {variable('workers')} to 1, or {variable('device')} to cpu",
        )


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
