"""Archives of published versions over HTTP: `https://HOST/PATH.tar.gz`, `.tgz` or `.zip`, with NAME/VERSION/ inside.

Each look is one conditional request. A new archive is downloaded to a working folder, resumed if that was interrupted,
and unpacked there: regular files of models alone, within limits on number and size. The standard library does all of
it; its own extraction knows no limits.
"""

import errno
import json
import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from cifar10_serving import __version__
from cifar10_serving.artifacts.layout import is_version_name
from cifar10_serving.errors import StoreError
from cifar10_serving.stores.address import StoreAddress, redacted
from cifar10_serving.stores.base import MAX_OBJECTS, MAX_TRANSFER_BYTES, Progress, StoredFile
from cifar10_serving.text import printable

SOCKET_LIMIT_S: Final = 10.0
GRACE_S: Final = 30.0
SLOWEST_BYTES_PER_S: Final = 2**18
"""A slower transfer is ended after the grace period, and resumed at the next look."""
CHUNK_BYTES: Final = 2**20
MAX_OUTER_FOLDERS: Final = 3
"""Folders around NAME/VERSION/ in an archive, such as `models/`."""
PART, STATE, UNPACKED, UNPACKING = "archive.part", "archive.json", "unpacked", "unpacking"
FILES_OF_MODELS: Final = ("serving.json", "tutorial.json")


class _NoDowngrade(HTTPRedirectHandler):
    """Follows redirects, but not from https to http."""

    def redirect_request(  # noqa: PLR0917  # urllib's signature
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise StoreError("the archive is redirected from https to another scheme", expected="https throughout")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class ArchiveStore:
    """An archive.

    Args:
        work: folder for the download and its content; on the file system where the files are needed.
        clock: returns the time.
    """

    list_limit_s = GRACE_S + MAX_TRANSFER_BYTES / SLOWEST_BYTES_PER_S

    def __init__(self, address: StoreAddress, work: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.address = address
        self._work = work
        self._clock = clock
        self._opener: OpenerDirector = build_opener(_NoDowngrade)

    def listing(self) -> Mapping[str, StoredFile]:
        """Return the archive's files; download and unpack it first if it has changed."""
        self._work.mkdir(parents=True, exist_ok=True)
        state = self._state()
        known = state.get("files") if (self._work / UNPACKED).is_dir() else None
        self._fetch(state if known is not None else {})
        files: Mapping[str, list[Any]] = self._state().get("files", {})
        return {name: StoredFile(size, token) for name, (size, token) in files.items()}

    def exists(self, name: str) -> bool:
        """Return whether the archive that was listed last has a file."""
        return name in self._state().get("files", {})

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return a small file."""
        with (self._work / UNPACKED / name).open("rb") as stream:
            content = stream.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise StoreError(f"{name} in {self.address} has more than {max_bytes:,} bytes")
        return content

    def download(self, name: str, target: Path, progress: Progress) -> None:
        """Link the unpacked file, so that it takes no further space; copy it where links are not possible."""
        file = self._work / UNPACKED / name
        target.unlink(missing_ok=True)
        try:
            os.link(file, target)
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copyfile(file, target)
        progress(target.stat().st_size)

    def _state(self) -> dict[str, Any]:
        """Return what is known of the unpacked archive: its ETag or date, and its files."""
        with suppress(OSError, ValueError):
            state: dict[str, Any] = json.loads((self._work / STATE).read_text(encoding="utf-8"))
            return state
        return {}

    def _fetch(self, known: Mapping[str, Any]) -> None:
        """Download and unpack the archive, unless it is the known one."""
        headers = {"User-Agent": f"cifar10-serving/{__version__}", "Accept-Encoding": "identity"}
        for header, field in (("If-None-Match", "etag"), ("If-Modified-Since", "last_modified")):
            if known.get(field):
                headers[header] = known[field]
        part = self._work / PART
        resumed = self._resumable()
        if resumed:
            headers |= {"Range": f"bytes={part.stat().st_size}-", "If-Range": resumed}
        try:
            with self._opener.open(Request(self.address.url, headers=headers), timeout=SOCKET_LIMIT_S) as answer:  # noqa: S310  # https or http: see address
                validators = {"etag": answer.headers.get("ETag"), "last_modified": answer.headers.get("Last-Modified")}
                self._receive(answer, part, is_rest=answer.status == 206, validators=validators)  # noqa: PLR2004
        except HTTPError as error:
            if error.code == 304:  # noqa: PLR2004
                return
            if error.code == 416:  # noqa: PLR2004  # the part is of another archive
                part.unlink(missing_ok=True)
            raise StoreError(f"{self.address} answered {error.code} {printable(str(error.reason))[:100]}") from None
        except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
            text = redacted(printable(str(error)))[:200]
            raise StoreError(f"{self.address} can't be reached: {text}", remedy="check the network") from None
        files = self._unpack(part)
        state = {**validators, "files": files}
        _write_json(self._work / STATE, state)
        part.unlink()

    def _resumable(self) -> str | None:
        """Return the strong ETag of the archive of which a part was downloaded."""
        part = self._work / PART
        with suppress(OSError, ValueError):
            etag = json.loads(part.with_suffix(".json").read_text(encoding="utf-8")).get("etag")
            return etag if part.stat().st_size and isinstance(etag, str) and etag.startswith('"') else None
        return None

    def _receive(self, answer: Any, part: Path, *, is_rest: bool, validators: Mapping[str, str | None]) -> None:
        start_s = self._clock()
        _write_json(part.with_suffix(".json"), validators)
        length = int(answer.headers.get("Content-Length") or 0)
        self._check_room(part, length)
        received = 0
        with part.open("ab" if is_rest else "wb") as stream:
            while chunk := answer.read(CHUNK_BYTES):
                stream.write(chunk)
                received += len(chunk)
                if stream.tell() > MAX_TRANSFER_BYTES:
                    raise StoreError(f"{self.address} has more than {MAX_TRANSFER_BYTES:,} bytes")
                if received < SLOWEST_BYTES_PER_S * (self._clock() - start_s - GRACE_S):
                    raise StoreError(f"{self.address} sends less than {SLOWEST_BYTES_PER_S:,} bytes a second")
        if received < length:
            raise StoreError(f"{self.address} ended after {received:,} of {length:,} bytes")

    def _unpack(self, part: Path) -> dict[str, tuple[int, str]]:
        """Unpack the files of models, and return their sizes and SHA-256."""
        folder = self._work / UNPACKING
        shutil.rmtree(folder, ignore_errors=True)
        files: dict[str, tuple[int, str]] = {}
        left_bytes = MAX_TRANSFER_BYTES
        try:
            for entry, stream in _members(part, is_zip=self.address.url.lower().endswith(".zip")):
                name = _of_a_model(entry)
                if name is None:
                    continue
                if len(files) >= MAX_OBJECTS:
                    raise StoreError(f"{self.address} has more than {MAX_OBJECTS:,} files")
                files[name] = self._write(stream, folder / name, left_bytes)
                left_bytes -= files[name][0]
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            raise StoreError(f"{self.address} can't be unpacked: {printable(str(error))[:200]}") from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                shutil.rmtree(folder, ignore_errors=True)
                raise
            part.unlink(missing_ok=True)  # gzip's errors of damaged data are of this class
            raise StoreError(f"{self.address} can't be unpacked: {printable(str(error))[:200]}") from None
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._work / UNPACKED, ignore_errors=True)
        folder.rename(self._work / UNPACKED)
        return files

    def _write(self, stream: IO[bytes], file: Path, left_bytes: int) -> tuple[int, str]:
        file.parent.mkdir(parents=True, exist_ok=True)
        digest, size = sha256(), 0
        with file.open("wb") as target:
            while chunk := stream.read(CHUNK_BYTES):
                size += len(chunk)
                if size > left_bytes:
                    raise StoreError(f"{self.address} unpacks to more than {MAX_TRANSFER_BYTES:,} bytes")
                self._check_room(file, len(chunk))
                target.write(chunk)
                digest.update(chunk)
        return size, digest.hexdigest()

    def _check_room(self, file: Path, size_bytes: int) -> None:
        if shutil.disk_usage(file.parent).free < size_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))


def _members(file: Path, *, is_zip: bool) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the regular files of an archive."""
    if is_zip:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    with archive.open(entry) as stream:
                        yield entry.filename, stream
        return
    with tarfile.open(file, "r:gz") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content is not None:
                yield member.name, content


def _of_a_model(entry: str) -> str | None:
    """Return the name of an archive's file from the model's name on; None for files of no model."""
    parts = entry.removeprefix("./").split("/")
    if any(part.strip(". ") == "" for part in parts) or not entry.isprintable() or {"\\", ":"} & set(entry):
        return None
    for outer in range(min(MAX_OUTER_FOLDERS + 1, len(parts) - 1)):
        inner = parts[outer + 1 :]
        if (is_version_name(inner[0]) and len(inner) > 1) or (len(inner) == 1 and inner[0] in FILES_OF_MODELS):
            return "/".join(parts[outer:])
    return None


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    partial = file.with_suffix(".new")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(file)
