"""A `sitecustomize.py` for a folder on PYTHONPATH: processes record their connections and forks.

Every Python process that inherits the variables imports it first.
"""

import os
import sys
from pathlib import Path

ADDRESS_OF = {"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0}
FORKS = {"os.fork", "os.forkpty"}
OWN = "127.0.0.1"
"""The address that the service listens on, which is resolved like any other name."""
_FILE = os.open(Path(os.environ["PROBE_FILE"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _note(event: str, arguments: tuple[object, ...]) -> None:
    address = arguments[ADDRESS_OF[event]] if event in ADDRESS_OF else ""
    if event in FORKS or (event in ADDRESS_OF and address != OWN):
        os.write(_FILE, f"{event} {address}\n".encode())


sys.addaudithook(_note)
