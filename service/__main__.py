"""Command line of the service: `python -m service`, and `python -m service check`, with a flag for each setting."""

import os
import signal
import sys
from types import FrameType
from typing import Final

CHECK: Final = "check"
SERVE: Final = "serve"
"""SageMaker starts a container with this argument."""


def main() -> int:
    """Serve until SIGTERM or Ctrl-C; return 0 after a shutdown, 2 if the service could not start.

    With the word `check` first, verify the published versions instead; see `service.process.check`. With the word
    `serve`, follow SageMaker's contract; see `service.cloud`.
    """
    if sys.argv[1:2] == [CHECK]:
        from service.process.check import check

        return check(sys.argv[2:])
    # Must come first: while modules are imported, a signal would end the process with a traceback, or, in a container,
    # not at all.
    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop_signal, _stop_before_serving)
    if hasattr(signal, "SIGHUP"):  # a reload, which the start does anyway
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from service.process.serve import serve

    if sys.argv[1:2] == [SERVE]:
        return serve(["--cloud", "sagemaker", *sys.argv[2:]])
    return serve(sys.argv[1:])


def _stop_before_serving(_signal: int, _frame: FrameType | None) -> None:
    # Not sys.exit: a library that is being imported may turn SystemExit into an ImportError.
    os._exit(0)


if __name__ == "__main__":
    code = main()
    from service.process.lifecycle import exit_now

    exit_now(code)  # the interpreter's exit takes a moment, in which another signal would look like a crash
