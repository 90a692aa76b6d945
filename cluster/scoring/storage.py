"""Folders that inputs are read from and outputs are written to: local ones, and object stores through fsspec.

Credentials are the store's own business: s3fs reads the variables, files and roles that every AWS program reads.
"""

import errno
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

from cifar10_serving.text import printable
from cluster.scoring.errors import ScoringError, ScoringUsageError, UnreadableInputError

READ_BYTES: Final = 2**14
"""Size of the first read: a small image is read in one call."""
OF_ONE_FILE: Final = frozenset({
    errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO,
})  # fmt: skip
"""Error numbers that say something about one file; others (such as EIO or EMFILE) would hit every file after it."""
UNFINISHED: Final = ".unfinished-"
"""Prefix of files that are being written; readers of a folder of Parquet files pass over hidden ones."""
STAMPS: Final = ("ETag", "etag", "md5Hash", "sha256", "mtime", "LastModified", "last_modified", "created")
"""Names under which file systems list what changes with a file's content, the best first."""
PACKAGES: Final = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file below a folder: its path relative to it with `/`, its size, and what changes with its content."""

    path: str
    size_bytes: int
    stamp: str


class Storage(Protocol):
    """A folder. Paths are relative to it, with `/`; names that begin with `.` or `_` are not listed.

    Absolute paths and addresses of the same store are accepted for reading.
    """

    url: str
    """The folder's address as the user would write it, absolute."""

    def walk(self) -> Iterator[Entry]:
        """Yield the files below the folder, depth first and sorted by name; one folder's names are held in memory.

        Raises:
            ScoringError: a folder can't be listed.
        """
        ...

    def read(self, paths: Sequence[str], max_bytes: int) -> list[bytes | UnreadableInputError]:
        """Return the content of files, or why one can't be read.

        Raises:
            ScoringError: reading fails for a reason that is not one file's.
        """
        ...

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading, seekable.

        Raises:
            ScoringError: it can't be opened.
        """
        ...

    def names(self) -> list[str]:
        """Return the names of all files directly in the folder; none if it doesn't exist."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the folder, whole or not at all.

        Raises:
            ScoringError: it can't be written.
        """
        ...

    def discard_unfinished(self) -> None:
        """Delete what killed runs have left of files; call it when no run is under way."""
        ...


def open_storage(url: str) -> Storage:
    """Return the storage for a path or an address such as `s3://bucket/prefix`.

    Raises:
        ScoringUsageError: the package for such addresses is not installed.
    """
    scheme, is_address, rest = url.partition("://")
    if not is_address:
        return LocalStorage(url)
    return LocalStorage(rest) if scheme == "file" else ObjectStorage(url, scheme)


def parent_and_name(url: str) -> tuple[str, str]:
    """Return the address of the folder that holds a file, and the file's name."""
    parent, _, name = url.rstrip("/").rpartition("/")
    return parent or ("/" if url.startswith("/") else "."), name


class LocalStorage:
    """A folder of this machine, or a mounted one."""

    def __init__(self, path: str) -> None:
        self.url = str(Path(path).absolute())

    def walk(self) -> Iterator[Entry]:
        """See `Storage.walk`; links to files are followed, links to folders are not."""
        waiting = [iter(self._listed(""))]
        while waiting:
            for prefix, entry in waiting[-1]:
                path = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(iter(self._listed(f"{path}/")))
                    break
                with suppress(OSError):  # a broken link
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        yield Entry(path, status.st_size, str(status.st_mtime_ns))
            else:
                waiting.pop()

    def read(self, paths: Sequence[str], max_bytes: int) -> list[bytes | UnreadableInputError]:
        """See `Storage.read`."""
        return [self._read(path, max_bytes) for path in paths]

    def open(self, path: str) -> BinaryIO:
        """See `Storage.open`."""
        try:
            return Path(self.url, path).open("rb")
        except OSError as error:
            raise ScoringError(f"{Path(self.url, path)} can't be opened: {error.strerror}") from None

    def names(self) -> list[str]:
        """See `Storage.names`."""
        try:
            return [entry.name for entry in Path(self.url).iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ScoringUsageError(f"{self.url} can't be listed: {error.strerror}", expected="a folder") from None

    def write(self, name: str, content: bytes) -> None:
        """See `Storage.write`."""
        try:
            folder = Path(self.url)
            folder.mkdir(parents=True, exist_ok=True)
            unfinished = folder / f"{UNFINISHED}{name}.{os.getpid()}.{threading.get_ident()}"
            with unfinished.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(folder / name)
        except OSError as error:
            raise ScoringError(
                f"{self.url}/{name} can't be written: {error.strerror}",
                expected="a folder with free space that this user may write to",
                remedy="run the same command again to continue",
            ) from None

    def discard_unfinished(self) -> None:
        """See `Storage.discard_unfinished`."""
        for file in Path(self.url).glob(f"{UNFINISHED}*"):
            with suppress(OSError):
                file.unlink()

    def _listed(self, prefix: str) -> list[tuple[str, "os.DirEntry[str]"]]:
        try:
            with os.scandir(f"{self.url}/{prefix}") as entries:
                shown = [entry for entry in entries if not entry.name.startswith((".", "_"))]
        except OSError as error:
            kind = ScoringError if prefix else ScoringUsageError
            raise kind(
                f"{self.url}/{prefix} can't be listed: {error.strerror}", expected="a folder that this user may read"
            ) from None
        return [(prefix, entry) for entry in sorted(shown, key=lambda entry: entry.name)]

    def _read(self, path: str, max_bytes: int) -> bytes | UnreadableInputError:
        """Return a file's content; plain calls, since a stream takes twice as long for a small file.

        A pipe is not waited for, and counts as empty.
        """
        whole = path if path.startswith("/") else f"{self.url}/{path}"
        try:
            descriptor = os.open(whole, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            try:
                content = os.read(descriptor, min(READ_BYTES, max_bytes + 1))
                while len(content) >= READ_BYTES and len(content) <= max_bytes:
                    more = os.read(descriptor, max_bytes + 1 - len(content))
                    if not more:
                        break
                    content += more
                return content if len(content) <= max_bytes else too_large(max_bytes)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:  # ValueError: a null character
            if isinstance(error, OSError) and error.errno not in OF_ONE_FILE:
                raise ScoringError(f"{whole} can't be read: {error.strerror}") from None
            return UnreadableInputError(f"it can't be read: {getattr(error, 'strerror', None) or error}")


class ObjectStorage:
    """A prefix of an object store that fsspec knows."""

    def __init__(self, url: str, scheme: str) -> None:
        self.url = url.rstrip("/")
        self._scheme = scheme
        _ = self._opened  # reports what is missing now

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        try:
            from fsspec.core import url_to_fs

            files, root = url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            package = PACKAGES.get(self._scheme, "fsspec")
            raise ScoringUsageError(
                f"{self._scheme}:// addresses can't be used here: {error}", remedy=f"pip install {package}"
            ) from None
        return files, str(root).rstrip("/")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open connection, which another process must not use."""
        return {"url": self.url, "_scheme": self._scheme}

    def walk(self) -> Iterator[Entry]:
        """See `Storage.walk`."""
        _, root = self._opened
        waiting = [iter(self._listed(root))]
        while waiting:
            for info in waiting[-1]:
                if info["type"] == "directory":
                    waiting.append(iter(self._listed(str(info["name"]))))
                    break
                stamp = next((str(info[name]) for name in STAMPS if info.get(name)), "")
                yield Entry(str(info["name"])[len(root) + 1 :], int(info["size"] or 0), stamp)
            else:
                waiting.pop()

    def read(self, paths: Sequence[str], max_bytes: int) -> list[bytes | UnreadableInputError]:
        """See `Storage.read`; all files are fetched at the same time."""
        if not paths:
            return []
        files, _ = self._opened
        places = [self._place(path) for path in paths]
        try:
            # Whole files: stores reject a range of an empty one. Unlike `cat`, this takes names as they are.
            whole = [None] * len(places)
            found = files.cat_ranges(places, whole, whole, on_error="return")
        except Exception as error:  # noqa: BLE001  # each store has errors of its own
            raise self._failed("read", error) from None
        return [self._content(one, max_bytes) for one in found]

    def open(self, path: str) -> BinaryIO:
        """See `Storage.open`."""
        files, _ = self._opened
        try:
            return cast("BinaryIO", files.open(self._place(path), "rb"))
        except Exception as error:  # noqa: BLE001
            raise self._failed(f"open {path} in", error) from None

    def names(self) -> list[str]:
        """See `Storage.names`."""
        files, root = self._opened
        try:
            return [str(info["name"]).rpartition("/")[2] for info in files.ls(root, detail=True)]
        except FileNotFoundError:
            return []
        except Exception as error:  # noqa: BLE001
            raise self._failed("list", error) from None

    def write(self, name: str, content: bytes) -> None:
        """See `Storage.write`: a store shows an object when it is complete."""
        files, _ = self._opened
        try:
            files.pipe_file(self._place(name), content)
        except Exception as error:  # noqa: BLE001
            raise self._failed("write to", error) from None

    def discard_unfinished(self) -> None:
        """See `Storage.discard_unfinished`; a store shows nothing unfinished."""

    def _place(self, path: str) -> str:
        files, root = self._opened
        return str(files._strip_protocol(path)) if "://" in path else f"{root}/{path}"  # noqa: SLF001  # what fsspec calls itself

    def _listed(self, folder: str) -> list[dict[str, Any]]:
        files, _ = self._opened
        try:
            found = files.ls(folder, detail=True)
        except Exception as error:  # noqa: BLE001
            raise self._failed("list", error) from None
        below = [info for info in found if str(info["name"]).rstrip("/") != folder]  # a marker of the folder itself
        names = {id(info): str(info["name"])[len(folder) + 1 :] for info in below}
        shown = [info for info in below if names[id(info)] and not names[id(info)].startswith((".", "_"))]
        return sorted(shown, key=lambda info: str(info["name"]))

    def _content(self, found: Any, max_bytes: int) -> bytes | UnreadableInputError:
        if isinstance(found, FileNotFoundError):
            return UnreadableInputError("it can't be read: there is no such object")
        if isinstance(found, BaseException):
            raise self._failed("read", found) from None
        return bytes(found) if len(found) <= max_bytes else too_large(max_bytes)

    def _failed(self, verb: str, error: BaseException) -> ScoringError:
        words = printable(str(error) or type(error).__name__)
        return ScoringError(
            f"can't {verb} {self.url}: {words}",
            expected="a store that is reachable, and credentials where its own tools look for them",
            remedy="run the same command again to continue",
        )


def too_large(max_bytes: int) -> UnreadableInputError:
    """Return the error for a file above the limit, which is the service's setting max_body_bytes."""
    return UnreadableInputError(
        "the file is too large", expected=f"at most {max_bytes:,} bytes", remedy="set CIFAR10_MAX_BODY_BYTES"
    )
