"""The command line of the service: `python -m service`, with a flag for each setting."""

import signal
import sys
from types import FrameType

import uvicorn

from catalog.errors import ProjectError
from service.app import create_app
from service.logging import logging_config
from service.settings import read_settings


def main() -> int:
    """Serve until SIGTERM or Ctrl-C; 0 after a clean stop, 2 where it could not start."""
    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop_signal, _stop)
    try:
        settings = read_settings(sys.argv[1:])
        app = create_app(settings)
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            timeout_graceful_shutdown=settings.shutdown_grace_s,
            log_config=logging_config(settings.log_level),
            server_header=False,
        )
    )
    server.run()
    return 0 if server.started else 2


def _stop(_signal: int, _frame: FrameType | None) -> None:
    # Outside of uvicorn's own handling: before it serves, and again when it raises the signal anew after it stopped.
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
