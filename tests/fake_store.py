"""A store whose content is a folder, and whose faults a test sets."""

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from cifar10_serving.stores.address import StoreAddress, parse_address
from cifar10_serving.stores.base import Progress, StoredFile


class FakeStore:
    """A `cifar10_serving.stores.base.Store` of the files in a folder.

    `calls` has every call, `unlisted` the files that listings lack, and `faults` what happens in the next calls of a
    name (`list`, or the name of a file): an error to raise, a function to run instead, or None to do what it should.

    Args:
        folder: a models folder, which tests fill as operators do.
    """

    list_limit_s = 20.0

    def __init__(self, folder: Path) -> None:
        self.address: StoreAddress = parse_address("s3://bucket/models")
        self.folder = folder
        self.calls: list[str] = []
        self.unlisted: set[str] = set()
        self.faults: dict[str, deque[Exception | Callable[[Path], None] | None]] = {}

    def fail(self, name: str, *faults: Exception | Callable[[Path], None] | None) -> None:
        """Set what happens in the next calls of a name."""
        self.faults[name] = deque(faults)

    def taken_calls(self) -> list[str]:
        """Return the calls since the last time."""
        calls, self.calls = self.calls, []
        return calls

    def listing(self) -> Mapping[str, StoredFile]:
        self._call("list", "list", self.folder)
        files = {file.relative_to(self.folder).as_posix(): file for file in self.folder.rglob("*") if file.is_file()}
        return {name: _stored(file) for name, file in files.items() if name not in self.unlisted}

    def exists(self, name: str) -> bool:
        self._call("ask", name, self.folder)
        return (self.folder / name).is_file()

    def read(self, name: str, max_bytes: int) -> bytes:
        self._call("read", name, self.folder)
        return (self.folder / name).read_bytes()[: max_bytes + 1]

    def download(self, name: str, target: Path, progress: Progress) -> None:
        if self._call("get", name, target):
            return
        content = (self.folder / name).read_bytes()
        progress(len(content))
        target.write_bytes(content)

    def _call(self, what: str, name: str, target: Path) -> bool:
        """Note a call and run its fault; return whether a function took its place."""
        self.calls.append(what if what == name else f"{what} {name}")
        fault = self.faults[name].popleft() if self.faults.get(name) else None
        if isinstance(fault, Exception):
            raise fault
        if fault is not None:
            fault(target)
        return fault is not None


def _stored(file: Path) -> StoredFile:
    status = file.stat()
    return StoredFile(status.st_size, f"{status.st_mtime_ns} {status.st_ino}")
