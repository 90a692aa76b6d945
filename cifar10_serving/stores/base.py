"""The interface of a store, which `cifar10_serving.stores.objects` and `cifar10_serving.stores.archive` implement."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cifar10_serving.stores.address import StoreAddress

MAX_OBJECTS: Final = 100_000
"""Maximum number of objects below an address: 10,000 versions of ten files."""
MAX_TRANSFER_BYTES: Final = 2**34


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a store.

    Args:
        size_bytes: its size; None if the store doesn't say.
        token: changes whenever the content does, such as an ETag.
    """

    size_bytes: int | None
    token: str


Progress = Callable[[int], None]
"""Called with the number of bytes received so far; may raise to end the transfer."""


class Store(Protocol):
    """A store from which versions are read. Every call may take arbitrarily long, and may be made in any thread.

    Names are relative to the address, with `/` as separator. Every method raises `StoreError` if the store can't be
    reached, or doesn't permit the call.
    """

    address: StoreAddress
    list_limit_s: float
    """Time limit of a listing, in seconds."""

    def listing(self) -> Mapping[str, StoredFile]:
        """Return every file.

        Raises:
            StoreError: there is no such bucket or archive, or the listing is not complete.
        """

    def exists(self, name: str) -> bool:
        """Ask the store about one file, without a listing."""

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return a small file.

        Raises:
            FileNotFoundError: it does not exist.
            StoreError: it is larger.
        """

    def download(self, name: str, target: Path, progress: Progress) -> None:
        """Write a file to a path of this machine.

        Raises:
            FileNotFoundError: it does not exist.
            OSError: it can't be written.
        """
