"""Writes a file whole or not at all: beside its place first, then renamed over what was there."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from catalog.errors import PublishError


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


def write_published(file: Path, document: str) -> None:
    """Write a document of what is published, in place of an earlier one.

    Raises:
        PublishError: the folder can't be written to.
    """
    try:
        with replaced_file(file) as stream:
            stream.write(f"{document}\n".encode())
    except OSError as error:
        raise PublishError(
            f"can't write {file}: {error.strerror}", expected="a folder with free space that this user may write to"
        ) from None
