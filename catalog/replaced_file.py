"""Writes a file whole or not at all: beside its place first, then renamed over what was there."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replaced_file(file: Path) -> Iterator[BinaryIO]:
    """A stream for the new content, which takes the file's place when the block ends well.

    The name beside it is of this process alone, so that two that write the same file don't mix.

    Raises:
        OSError: the folder isn't there or can't be written to; what was there stays, and nothing half is left.
    """
    unfinished = file.with_suffix(f".{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(file)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
