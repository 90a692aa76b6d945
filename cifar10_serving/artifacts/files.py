"""Files of published folders: safe reading (only regular files, bounded, inside the folder), and atomic replacement.

A folder that others fill may contain FIFOs, devices, links to the outside or endless files. Everything that reads a
version opens its files here.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final

from cifar10_serving.errors import PublishError

CHUNK_BYTES: Final = 2**20
MAX_ENTRIES: Final = 2_000
"""Maximum number of files and folders in a published folder; ours have 12."""
KINDS: Final = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISLNK, "a link"),
)
OPENS_BELOW: Final = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
"""True if files can be opened relative to a folder; on Windows they can't."""


class UnusableFileError(OSError):
    """Raised for a file that is not opened or not read completely; `strerror` gives the reason."""

    def __init__(self, reason: str, file: Path) -> None:
        super().__init__(errno.EINVAL, reason, str(file))


def open_regular(folder: Path, name: str) -> BufferedReader:
    """Open a file in a folder for reading, without ever waiting for another process or opening a device.

    Args:
        name: path relative to the folder, with `/` as separator.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such file or folder.
        UnusableFileError: it is not a regular file, or a link leads out of the folder.
        OSError: it can't be opened.
    """
    file = folder / name
    root = os.path.realpath(folder)
    target = os.path.realpath(file)
    if not target.startswith(root.rstrip(os.sep) + os.sep):
        raise UnusableFileError("a link or its path leads out of the folder", file)
    descriptor = _open_below(root, target) if OPENS_BELOW else _open_plain(target, None)
    try:
        _check_kind(os.fstat(descriptor), file)
        return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def read_regular(folder: Path, name: str, *, max_bytes: int) -> bytes:
    """Read a complete file in a folder.

    Args:
        name: path relative to the folder, with `/` as separator.

    Raises:
        UnusableFileError: it has more than `max_bytes`, or see `open_regular`.
        OSError: see `open_regular`.
    """
    with open_regular(folder, name) as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        content = stream.read(max_bytes + 1) if size_bytes <= max_bytes else b""
    if size_bytes > max_bytes or len(content) > max_bytes:
        raise UnusableFileError(f"has {max(size_bytes, len(content)):,} bytes, more than {max_bytes:,}", folder / name)
    return content


def sha256_regular(folder: Path, name: str, *, size_bytes: int) -> str | None:
    """Return the SHA-256 of a file in a folder in hexadecimal; None, without reading it, if its size differs.

    Raises:
        OSError: see `open_regular`.
    """
    digest = hashlib.sha256()
    with open_regular(folder, name) as stream:
        if os.fstat(stream.fileno()).st_size != size_bytes:
            return None
        left_bytes = size_bytes + 1  # one more byte, to detect a file that grows
        while left_bytes and (chunk := stream.read(min(CHUNK_BYTES, left_bytes))):
            digest.update(chunk)
            left_bytes -= len(chunk)
    return digest.hexdigest() if left_bytes == 1 else None


def regular_files(folder: Path) -> Iterator[str]:
    """Yield every file below a folder, including hidden ones, by relative path; don't follow links to folders.

    Raises:
        UnusableFileError: there is something that `open_regular` would not open, or too much.
        OSError: a folder can't be listed.
    """
    root = os.path.realpath(folder)
    unlisted, entries = [""], 0
    while unlisted:
        prefix = unlisted.pop()
        with os.scandir(os.path.join(root, prefix)) as found:  # noqa: PTH118  # PTH has no scandir
            for entry in found:
                entries += 1
                if entries > MAX_ENTRIES:
                    raise UnusableFileError(f"holds more than {MAX_ENTRIES:,} files and folders", folder)
                name = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    unlisted.append(f"{name}/")
                elif entry.is_file(follow_symlinks=False) or not _leads_to_folder(root, entry, folder / name):
                    yield name


def _leads_to_folder(root: str, entry: "os.DirEntry[str]", file: Path) -> bool:
    target = os.path.realpath(entry.path)
    if target != root and not target.startswith(root.rstrip(os.sep) + os.sep):
        raise UnusableFileError("a link leads out of the folder", file)
    status = os.stat(target)  # noqa: PTH116  # a path of the system's own
    if stat.S_ISDIR(status.st_mode):
        return True
    _check_kind(status, file)
    return False


def _check_kind(status: os.stat_result, file: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    if not stat.S_ISREG(status.st_mode):
        kind = next((words for is_kind, words in KINDS if is_kind(status.st_mode)), "something else")
        raise UnusableFileError(f"is {kind}, not a regular file", file)


def _open_below(root: str, target: str) -> int:
    """Open a path below a folder without following links: one part at a time, so that no part can become a link."""
    *folders, name = Path(target).relative_to(root).parts
    place = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
            os.close(place)
            place = below
        return _open_plain(name, place)
    finally:
        os.close(place)


def _open_plain(name: str, place: int | None) -> int:
    status = os.stat(name, dir_fd=place, follow_symlinks=False)  # Path has no dir_fd
    _check_kind(status, Path(name))  # opening some devices has side effects
    flags = os.O_RDONLY
    for flag in ("O_NONBLOCK", "O_NOFOLLOW", "O_NOCTTY", "O_BINARY"):
        flags |= getattr(os, flag, 0)
    return os.open(name, flags, dir_fd=place)


@contextmanager
def replaced_file(file: Path) -> Iterator[BinaryIO]:
    """Yield a stream for new content, which replaces the file if the block ends without an error.

    The temporary name contains the process id, so that two processes that write the same file don't interfere.

    Raises:
        OSError: the folder doesn't exist or isn't writable; the old file stays, and no partial file is left.
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
    """Write a document next to published versions, replacing an earlier one.

    Raises:
        PublishError: the folder isn't writable.
    """
    try:
        with replaced_file(file) as stream:
            stream.write(f"{document}\n".encode())
    except OSError as error:
        raise PublishError(
            f"can't write {file}: {error.strerror}", expected="a folder with free space that this user may write to"
        ) from None
