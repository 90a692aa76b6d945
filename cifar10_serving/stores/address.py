"""Addresses of stores, such as `s3://bucket/models`: which are legal, and which package each needs.

An address is shown in logs and errors, so it may not contain credentials. A store takes them from where its own tools
do: environment variables, a profile, or the machine's role.
"""

import importlib.util
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from cifar10_serving.errors import StoreError
from cifar10_serving.text import printable

ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
ARCHIVES: Final = (".tar.gz", ".tgz", ".zip")
ARCHIVE_SCHEMES: Final = frozenset({"https", "http"})
MAX_ADDRESS: Final = 1_000
EXAMPLES: Final = "s3://BUCKET/PREFIX, gs://…, az://…, hf://…, or https://… of a .tar.gz or .zip file"
SECRETS: Final = re.compile(r"(?<=://)[^/\s@]+@|[?#][^\s'\")]+|\b(AKIA|ASIA)[0-9A-Z]{12,}")
"""Parts of text with addresses that may be secret: users, passwords, signed queries, and access keys."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """The requirements of a scheme: a module, and the extra of this project that installs it."""

    module: str
    extra: str


SCHEMES: Final = {
    "s3": Scheme("s3fs", "s3"),
    "gs": Scheme("gcsfs", "gcs"),
    "az": Scheme("adlfs", "azure"),
    "abfs": Scheme("adlfs", "azure"),
    "hf": Scheme("huggingface_hub", "huggingface"),
    "file": Scheme("fsspec", "s3"),
    "memory": Scheme("fsspec", "s3"),
}
"""Schemes of object stores; `memory` is for tests."""


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A legal address, without credentials."""

    url: str
    scheme: str

    def __str__(self) -> str:
        return self.url

    @property
    def is_archive(self) -> bool:
        """True for an archive over HTTP, false for an object store."""
        return self.scheme in ARCHIVE_SCHEMES

    def check_package(self) -> None:
        """Check that the package for the scheme is installed, without importing it.

        Raises:
            StoreError: names the extra that installs it.
        """
        scheme = SCHEMES.get(self.scheme)
        missing = [name for name in ("fsspec", scheme.module) if not _is_installed(name)] if scheme else []
        if scheme and missing:
            raise StoreError(
                f"{self.scheme}:// needs the package {missing[-1]}, which is not installed",
                expected=f"this project's extra '{scheme.extra}'",
                remedy=f"install {scheme.module} beside the service's packages",
            )


def is_address(text: str) -> bool:
    """Return whether this is an address rather than the path of a folder."""
    return ADDRESS.match(text) is not None


def parse_address(text: str) -> StoreAddress:
    """Return a checked address, without a trailing slash.

    Raises:
        StoreError: it is not legal; the message shows no credentials.
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        raise _illegal("the address is malformed") from None
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES and scheme not in ARCHIVE_SCHEMES:
        raise _illegal(f"the scheme '{printable(scheme)[:20]}' is not known")
    if _may_have_secret(parts):
        raise StoreError(
            f"the address {redacted(text)[:MAX_ADDRESS]} contains credentials, or a query that may",
            expected=EXAMPLES,
            remedy="give credentials by the store's own means: environment variables, a profile, or the machine's role",
        )
    if len(text) > MAX_ADDRESS or not text.isprintable() or " " in text or "::" in text or "*" in text:
        raise _illegal("the address is too long or has characters that are not allowed")
    if scheme in ARCHIVE_SCHEMES and not parts.path.lower().endswith(ARCHIVES):
        raise _illegal(f"{scheme}:// needs the address of an archive")
    if not (parts.path.strip("/") if scheme == "file" else parts.netloc):
        raise _illegal(f"{scheme}:// names no {'folder' if scheme == 'file' else 'bucket or host'}")
    return StoreAddress(f"{scheme}{text[len(scheme) :].rstrip('/')}", scheme)


def redacted(text: str) -> str:
    """Return text without the parts of addresses that may be secret."""
    return SECRETS.sub("…", text)


def _may_have_secret(parts: SplitResult) -> bool:
    # abfs://container@account.dfs.core.windows.net/… and hf://model@revision have an @, but no password.
    user, at, _ = parts.netloc.rpartition("@")
    is_user = bool(at) and (parts.scheme.lower() not in ("abfs", "az", "hf") or ":" in user)
    return is_user or bool(parts.query) or bool(parts.fragment) or "?" in parts.netloc


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _illegal(problem: str) -> StoreError:
    return StoreError(problem, expected=EXAMPLES)
