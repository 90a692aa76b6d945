"""Object stores, through fsspec: `s3://`, `gs://`, `az://`, `hf://`, and `file://` and `memory://`.

fsspec's own caches of listings are off: every look asks the store. Credentials, endpoints and regions come from where
the store's own tools take them, or from fsspec's variables (`FSSPEC_S3_…`); none is passed from here.
"""

import errno
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

from cifar10_serving.errors import StoreError
from cifar10_serving.stores.address import StoreAddress, redacted
from cifar10_serving.stores.base import MAX_OBJECTS, Progress, StoredFile
from cifar10_serving.text import printable

LIST_LIMIT_S: Final = 20.0
S3_CONNECTION: Final = {"connect_timeout": 5, "read_timeout": 15, "retries": {"mode": "standard", "max_attempts": 2}}
"""botocore waits for 60 s, and s3fs tries five times: five minutes for a store that doesn't answer."""
TOKEN_FIELDS: Final = (
    *("ETag", "etag", "e_tag", "content_hash", "md5Hash", "generation", "blob_id", "sha256", "VersionId"),
    *("LastModified", "last_modified", "updated", "mtime", "created"),
)
"""Fields by which the implementations of fsspec tell one content of a file from another."""
MAX_SHOWN: Final = 300
NO_CREDENTIALS: Final = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "RefreshError")
NOT_PERMITTED: Final = ("ClientAuthenticationError", "GatedRepoError", "HttpError403", "Forbidden")
UNREACHABLE: Final = (
    *("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ServiceRequestError"),
    *("ClientConnectorError", "ServerDisconnectedError", "ConnectionError", "ConnectError", "LocalEntryNotFoundError"),
)
"""Names of exceptions of packages that may not be installed, so that they can't be imported."""


class ObjectStore:
    """A bucket, or a prefix in it.

    Args:
        file_system: fsspec's file system; None for the one of the address, opened at the first call.
    """

    list_limit_s = LIST_LIMIT_S

    def __init__(self, address: StoreAddress, file_system: Any = None) -> None:
        self.address = address
        self._given = file_system
        self._opened: tuple[Any, str] | None = None

    def listing(self) -> Mapping[str, StoredFile]:
        """Return every file below the address, with one listing."""
        with self._store_errors("be listed"):
            file_system, root = self._open()
            file_system.invalidate_cache()  # Hugging Face's file system has a cache that no option disables
            try:
                found: Mapping[str, Mapping[str, Any]] = file_system.find(root, detail=True)
            except FileNotFoundError:
                raise self._not_there() from None
            if not found and self.address.scheme in ("file", "hf") and not file_system.isdir(root):
                raise self._not_there()
            if len(found) > MAX_OBJECTS:
                raise StoreError(
                    f"{self.address} has more than {MAX_OBJECTS:,} objects", expected="a prefix with models only"
                )
            return {
                path[len(root) :].lstrip("/"): StoredFile(_size(known), _token(known))
                for path, known in found.items()
                if known.get("type") == "file" and path.startswith(root)
            }

    def exists(self, name: str) -> bool:
        """Ask about one file; other than fsspec's own `exists`, an error is not a no."""
        with self._store_errors(f"be asked for {name}"):
            file_system, root = self._open()
            file_system.invalidate_cache()
            try:
                file_system.info(f"{root}/{name}")
            except FileNotFoundError:
                return False
            return True

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return a small file."""
        with self._store_errors(f"be read: {name}"):
            file_system, root = self._open()
            content: bytes = file_system.cat_file(f"{root}/{name}", start=0, end=max_bytes + 1)
        if len(content) > max_bytes:
            raise StoreError(f"{self.address}/{name} has more than {max_bytes:,} bytes")
        return content

    def download(self, name: str, target: Path, progress: Progress) -> None:
        """Write a file to a path of this machine, in one request where the implementation can."""
        with self._store_errors(f"be read: {name}"):
            file_system, root = self._open()
            from fsspec.callbacks import Callback

            following = Callback(hooks={"progress": lambda _size, received, **_: progress(received)})
            file_system.get_file(f"{root}/{name}", str(target), callback=following)

    def upload(self, file: Path, name: str) -> None:
        """Write a file of this machine to the store, replacing what is there."""
        with self._store_errors(f"be written: {name}"):
            file_system, root = self._open()
            file_system.put_file(str(file), f"{root}/{name}")

    def create(self, name: str, content: bytes) -> None:
        """Write a small file that does not exist yet; where the store can, atomically.

        Raises:
            FileExistsError: it does.
        """
        with self._store_errors(f"be written: {name}"):
            file_system, root = self._open()
            how: dict[str, Any] = {"overwrite": False} if self.address.scheme in ("az", "abfs") else {"mode": "create"}
            file_system.pipe_file(f"{root}/{name}", content, **how)

    def _open(self) -> tuple[Any, str]:
        if self._opened is None:
            self.address.check_package()
            from fsspec.core import url_to_fs

            if self._given is not None:
                opened = self._given, self._given._strip_protocol(self.address.url)  # noqa: SLF001  # fsspec's documented way
            else:
                opened = url_to_fs(self.address.url, skip_instance_cache=True, **_options(self.address.scheme))
            self._opened = opened[0], opened[1].rstrip("/")
        return self._opened

    @contextmanager
    def _store_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (StoreError, FileNotFoundError, FileExistsError):
            raise
        except Exception as error:  # noqa: BLE001  # the packages have no common class of errors
            self._translate(error, what)

    def _translate(self, error: Exception, what: str) -> NoReturn:
        """Raise a `StoreError` that says what is wrong; errors of this machine's own disk are raised as they are."""
        kinds = {kind.__name__ for kind in type(error).__mro__}
        text = redacted(printable(str(error)))[:MAX_SHOWN]
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise error
        if kinds.intersection(NO_CREDENTIALS):
            raise StoreError(
                f"{self.address} can't {what}: there are no credentials ({text})",
                remedy="give them by the store's own means: environment variables, a profile, or the machine's role",
            ) from None
        if isinstance(error, PermissionError) or kinds.intersection(NOT_PERMITTED):
            raise StoreError(
                f"{self.address} can't {what}: permission denied ({text})",
                expected="credentials that may list and read the store",
                remedy="check the policy of the role or user that the service runs as",
            ) from None
        if isinstance(error, ConnectionError | TimeoutError | socket.gaierror) or kinds.intersection(UNREACHABLE):
            raise StoreError(
                f"{self.address} can't be reached: {text}", remedy="check the network and the endpoint"
            ) from None
        raise StoreError(f"{self.address} can't {what}: {type(error).__name__}: {text}") from None

    def _not_there(self) -> StoreError:
        return StoreError(
            f"{self.address}: there is no such bucket or folder",
            expected="a store that contains NAME/VERSION/",
            remedy="check the address, and the account or endpoint that it is looked up in",
        )


def _options(scheme: str) -> dict[str, Any]:
    """Return the options of fsspec's file system: no cached listings, and time limits for S3."""
    if scheme != "s3":
        return {"use_listings_cache": False}
    from fsspec.config import conf

    own = conf.get("s3", {}).get("config_kwargs", {})
    return {"use_listings_cache": False, "config_kwargs": {**S3_CONNECTION, **(own if isinstance(own, dict) else {})}}


def _size(known: Mapping[str, Any]) -> int | None:
    size = known.get("size")
    return int(size) if size is not None else None


def _token(known: Mapping[str, Any]) -> str:
    return " ".join(str(known[field]) for field in TOKEN_FIELDS if known.get(field) is not None) or str(_size(known))
