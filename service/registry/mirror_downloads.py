"""Downloads from a store: each call has a time limit, and each version is complete and verified before anybody sees it.

Files that are there with the right hash are kept, so that an interrupted download goes on where it was.
"""

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from cifar10_serving.artifacts.files import MAX_ENTRIES, regular_files, sha256_regular
from cifar10_serving.artifacts.layout import (
    MAX_METADATA_BYTES,
    MAX_VERSION_BYTES,
    METADATA_FILE,
    read_metadata,
    verify,
)
from cifar10_serving.artifacts.metadata import FileRecord, ModelMetadata
from cifar10_serving.errors import ArtifactError, StoreError
from cifar10_serving.stores.base import Store, StoredFile
from service.registry.loading import (
    READ_LIMIT_S,
    SLOWEST_BYTES_PER_S,
    BoundedCalls,
    CallsStoppedError,
    UnresponsiveError,
)

PARTS: Final = "parts"
MAX_HUNG_CALLS: Final = 4
"""Calls that have not returned, after which the store isn't asked again until one does."""
ASK_LIMIT_S: Final = 20.0
RESERVE_BYTES: Final = 64 * 2**20
"""Space that downloads leave free."""
ATTEMPTS: Final = 2
FULL: Final = (errno.ENOSPC, errno.EDQUOT)

Value = TypeVar("Value")
logger = logging.getLogger(__name__)


class UnusableVersionError(Exception):
    """Raised for something in the store that stays unusable until the store has another version of it."""


class Downloads:
    """Reads from a store.

    Args:
        open_store: opens the store.
        hidden: folder for unfinished files, on the file system of their final place.
        limit: factor on all time limits.

    Raises:
        StoreError: the store can't be opened.
    """

    def __init__(self, open_store: Callable[[], Store], hidden: Path, *, limit: float = 1.0) -> None:
        self._open = open_store
        self._store = open_store()
        self._hidden = hidden
        self._limit = limit
        self._calls = BoundedCalls()
        self._hung: list[str] = []
        self._calls_made = 0
        self._stopped = False

    def stop(self) -> None:
        """Abandon the current call and all later ones; thread-safe."""
        self._stopped = True
        self._calls.stop()

    def listing(self) -> Mapping[str, StoredFile]:
        """Return every file of the store.

        Raises:
            StoreError, OSError: it can't be listed.
        """
        return self._call("list", self._store.listing, self._store.list_limit_s)

    def exists(self, name: str) -> bool:
        """Ask the store about one file.

        Raises:
            StoreError, OSError: it doesn't answer.
        """
        return self._call("ask", lambda: self._store.exists(name), ASK_LIMIT_S)

    def read(self, name: str, stored: StoredFile, max_bytes: int) -> bytes:
        """Return a small file.

        Raises:
            UnusableVersionError: it has more than `max_bytes`.
            StoreError, OSError: it can't be read now.
        """
        if stored.size_bytes is not None and stored.size_bytes > max_bytes:
            raise UnusableVersionError(f"{self._store.address}/{name} has more than {max_bytes:,} bytes.")
        if stored.size_bytes == 0:  # the range of an empty file is an error for some stores
            return b""
        return self._call("read", lambda: self._store.read(name, max_bytes), ASK_LIMIT_S)

    def stage(self, place: str, files: Mapping[str, StoredFile], folder: Path, target: Path) -> bool:
        """Download a version to its staging folder; return False if the target is the same already.

        Args:
            place: NAME/VERSION in the store.
            files: what the store lists of it.
            folder: the staging folder, whose last two parts are NAME/VERSION as well.

        Raises:
            UnusableVersionError, ArtifactError: it is not a complete version.
            StoreError, OSError: it can't be read, or written, now.
        """
        start_s = time.monotonic()
        content = self.read(f"{place}/{METADATA_FILE}", files[METADATA_FILE], MAX_METADATA_BYTES)
        if content_of(target / METADATA_FILE) == content and is_intact(target):
            return False
        folder.mkdir(parents=True, exist_ok=True)
        (folder / METADATA_FILE).write_bytes(content)
        metadata = read_metadata(folder)
        self._check(place, metadata, files)
        missing = {name: record for name, record in metadata.files.items() if not _has(folder, name, record)}
        needed_bytes = sum(record.size_bytes for record in missing.values())
        try:
            _check_room(folder, place, needed_bytes)
            for file, record in missing.items():
                self._download(f"{place}/{file}", folder / file, record)
        except OSError as error:
            if error.errno in FULL:  # the space may be needed for something smaller
                shutil.rmtree(folder, ignore_errors=True)
            raise
        for file in set(regular_files(folder)) - {*metadata.files, METADATA_FILE}:
            (folder / file).unlink()
        logger.info(
            "mirrored %s: %d of %d files, %.1f MB in %.1f s",
            *(place, len(missing), len(metadata.files), needed_bytes / 1e6, time.monotonic() - start_s),
        )
        return True

    def _check(self, place: str, metadata: ModelMetadata, files: Mapping[str, StoredFile]) -> None:
        """Check what the metadata lists, without downloading anything."""
        total_bytes = sum(record.size_bytes for record in metadata.files.values())
        if len(metadata.files) > MAX_ENTRIES or total_bytes > MAX_VERSION_BYTES:
            raise UnusableVersionError(
                f"{place} has {len(metadata.files):,} files and {total_bytes:,} bytes. "
                f"Expected: at most {MAX_ENTRIES:,} files and {MAX_VERSION_BYTES:,} bytes."
            )
        for file, record in metadata.files.items():
            if file not in files:
                raise UnusableVersionError(f"{self._store.address}/{place}/{file} is not there, or not yet.")
            size = files[file].size_bytes
            if size is not None and size != record.size_bytes:
                raise UnusableVersionError(
                    f"{self._store.address}/{place}/{file} is not what was published: {size:,} bytes. "
                    f"Expected: {record.size_bytes:,} bytes."
                )

    def _download(self, name: str, target: Path, record: FileRecord) -> None:
        """Download a file and check its hash; once more if that is wrong, which may be the network's fault."""
        found: str | None = None
        for _ in range(ATTEMPTS):
            part = self._hidden / PARTS / f"{os.getpid()}-{self._calls_made}"
            try:
                self._receive(name, part, record)
                found = sha256_regular(part.parent, part.name, size_bytes=record.size_bytes)
                if found == record.sha256:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    part.replace(target)
                    return
            finally:
                part.unlink(missing_ok=True)
        content = "a different size" if found is None else f"SHA-256 {found[:12]}…"
        raise UnusableVersionError(
            f"{self._store.address}/{name} is not what was published: {content}. Expected: {record.size_bytes:,} bytes "
            f"with SHA-256 {record.sha256[:12]}…. What to do: publish the version again."
        )

    def _receive(self, name: str, part: Path, record: FileRecord) -> None:
        is_over = False

        def progress(received: int) -> None:
            if is_over or self._stopped:
                raise StoreError(f"the download of {name} was abandoned")
            if received > record.size_bytes:
                raise StoreError(f"{self._store.address}/{name} has more than {record.size_bytes:,} bytes")

        try:
            limit_s = READ_LIMIT_S + record.size_bytes / SLOWEST_BYTES_PER_S
            self._call("download", lambda: self._store.download(name, part, progress), limit_s)
        finally:
            is_over = True

    def _call(self, what: str, call: Callable[[], Value], limit_s: float) -> Value:
        """Make a call within a limit; after one that hangs, open the store anew, with new connections.

        Raises:
            UnresponsiveError: it hangs, or several earlier ones still do.
        """
        self._hung = [name for name in self._hung if self._calls.is_under_way(name)]
        if len(self._hung) >= MAX_HUNG_CALLS:
            raise UnresponsiveError("it still does not respond")
        self._calls_made += 1
        name = f"{what} {self._calls_made}"
        try:
            return self._calls.run(name, call, limit_s * self._limit)
        except UnresponsiveError:
            self._hung.append(name)
            self._store = self._open()
            raise
        except (StoreError, UnusableVersionError, OSError, CallsStoppedError):
            raise
        except Exception as error:
            logger.exception("a call of the store failed")
            raise StoreError(f"{self._store.address}: {type(error).__name__}: {error}") from None


def content_of(file: Path) -> bytes | None:
    """Return the content of a file; None if it can't be read."""
    try:
        return file.read_bytes()
    except OSError:
        return None


def is_intact(folder: Path) -> bool:
    """Return whether a version's files are what its metadata lists."""
    try:
        verify(folder, read_metadata(folder))
    except ArtifactError:
        return False
    return True


def _check_room(folder: Path, place: str, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes + RESERVE_BYTES:
        raise OSError(errno.ENOSPC, f"{place} needs {needed_bytes:,} bytes, and {free_bytes:,} are free")


def _has(folder: Path, name: str, record: FileRecord) -> bool:
    with suppress(OSError):
        return sha256_regular(folder, name, size_bytes=record.size_bytes) == record.sha256
    return False
