"""The child processes that parse large requests (`service.api.large_requests`)."""

import os
from contextlib import suppress
from pathlib import Path

from bench.processes import process_tree


def reading_processes() -> set[int]:
    """Return their process ids."""
    found = set()
    for child in process_tree(os.getpid())[1:]:
        with suppress(OSError):  # it ended just now
            if b"service.api.large_requests" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.add(child)
    return found
