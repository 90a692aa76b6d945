"""Starts the service: settings, listening sockets, and one or several processes.

`service.process.server` does the serving.
"""

import errno
import os
import socket
import sys
from collections.abc import Sequence
from typing import Final

from cifar10_serving.errors import ProjectError
from service.errors import SettingsError
from service.process.server import BACKLOG, COULD_NOT_START, run_server
from service.process.workers import Supervisor
from service.settings import Settings, read_settings, variable, warn_of_names
from service.telemetry.logs import configure_logging

NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Errors for an address family that this machine doesn't have, though a name such as `localhost` includes it."""
ANY_ADDRESS: Final = "::"

_Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]


def serve(arguments: Sequence[str]) -> int:
    """Serve until a signal; return 0 after a shutdown, 2 if the service could not start.

    Args:
        arguments: command-line flags.
    """
    try:
        settings = read_settings(arguments)
        configure_logging(settings.log_level, settings.log_format)
        warn_of_names(arguments)
        _check_workers(settings)
        sockets = listen(settings.host, settings.port, "port")
        if settings.grpc_port:  # gRPC's server binds it later, with a worse error
            for probe in listen(settings.host, settings.grpc_port, "grpc_port"):
                probe.close()
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return COULD_NOT_START
    if settings.workers == 1:
        return run_server(settings, sockets)
    return Supervisor(settings, sockets).run()


def _check_workers(settings: Settings) -> None:
    """Check that the settings allow several processes.

    Raises:
        SettingsError: each process would take the GPU's memory.
    """
    if settings.workers > 1 and settings.device.startswith("gpu"):
        raise SettingsError(
            f"{variable('workers')} = {settings.workers} with device {settings.device}",
            expected="1: one process owns a GPU",
            remedy=f"set {variable('workers')} to 1, or {variable('device')} to cpu",
        )


def listen(host: str, port: int, setting: str) -> list[socket.socket]:
    """Return the sockets of a host: one for each of its addresses; for `::`, one that takes IPv4 as well.

    Args:
        host: an address, or a name that may have several addresses.
        setting: the setting that the port comes from, for the error.

    Raises:
        SettingsError: there is no such host, or none of its addresses can be used.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
        for family, address in addresses:
            try:
                sockets.append(_listening(family, address))
            except OSError as error:
                is_last_hope = not sockets and (family, address) == addresses[-1]
                if error.errno not in NOT_HERE or is_last_hope:
                    raise
    except OSError as error:
        for opened in sockets:
            opened.close()
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise SettingsError(
            f"can't listen on {host} port {port}: {reason}",
            expected="an address of this machine and a free port",
            remedy=f"change {variable('host')} or {variable(setting)}",
        ) from None
    except UnicodeError:  # a label of the name is too long for the DNS, or empty
        raise SettingsError(
            f"'{host[:100]}' is not a known host name",
            remedy=f"change {variable('host')}",
            expected="an address or a name",
        ) from None
    return sockets


def _listening(family: int, address: "_Address") -> socket.socket:
    return socket.create_server(
        address,
        family=family,
        backlog=BACKLOG,
        dualstack_ipv6=address[0] == ANY_ADDRESS and socket.has_dualstack_ipv6(),
    )
