"""The command line of the service: `python -m service`, with a flag for each setting."""

import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn

from catalog.errors import ProjectError
from service.app import create_app
from service.errors import SettingsError
from service.logging import logging_config
from service.settings import Settings, read_settings, variable

BACKLOG = 2048

logger = logging.getLogger(__name__)


def main() -> int:
    """Serve until SIGTERM or Ctrl-C; 0 after a clean stop, 2 where it could not start."""
    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop_signal, _stop)
    try:
        settings = read_settings(sys.argv[1:])
        listening = _listen(settings)
        app = create_app(settings)
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            timeout_graceful_shutdown=settings.shutdown_grace_s,
            log_config=logging_config(settings.log_level),
            server_header=False,
        )
    )
    logger.info("listening on http://%s:%d, see /docs", settings.host, settings.port)
    server.run(sockets=[listening])
    return 0 if server.started else 2


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"can't listen on {settings.host} port {settings.port}: {error.strerror}",
            expected="an address of this machine and a port that is free",
            remedy=f"change {variable('host')} or {variable('port')}",
        ) from None


def _stop(_signal: int, _frame: FrameType | None) -> None:
    # Outside of uvicorn's own handling: before it serves, and again when it raises the signal anew after it stopped.
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
