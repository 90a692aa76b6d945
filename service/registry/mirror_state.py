"""The state that processes share with a mirrored store: one lock, and one small file.

The lock is the kernel's, so it ends with its process. The file says what the store had at the last look, so that the
others know the same failures, and need not ask the store again.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from cifar10_serving.artifacts.files import replaced_file

LOCK_POLL_S: Final = 0.05


class FailedDownload(BaseModel):
    """A version, or a model's file, that could not be mirrored.

    Args:
        token: of what the store had; another one is tried again.
        reason: for users.
        retry_at_s: time at which the same is tried again, because something may have been temporary; None: never.
    """

    model_config = ConfigDict(frozen=True)

    token: str
    reason: str
    retry_at_s: float | None = None


class MirrorState(BaseModel):
    """The result of the last look at the store.

    Args:
        looked_s: time of the look, by a clock that all processes of the machine share.
        retried_s: time of the last look that retried failures.
        succeeded_at_s: time since 1970 of the last look that the store answered.
        unfinished: there was more to mirror.
        problem: why the store could not be followed.
        tokens: of what is mirrored, by NAME/VERSION or NAME/FILE.
        failed: by the same names.
        held: models of which nothing changes until a time, because something that they need failed.
        absent: the names that the last listing lacked, although they are mirrored.
    """

    looked_s: float = 0.0
    retried_s: float = 0.0
    succeeded_at_s: float = 0.0
    unfinished: bool = False
    problem: str | None = None
    tokens: dict[str, str] = {}
    failed: dict[str, FailedDownload] = {}
    held: dict[str, float] = {}
    absent: set[str] = set()

    @classmethod
    def read(cls, file: Path) -> "MirrorState":
        """Return the state in a file; an empty one if there is none that can be read."""
        try:
            return cls.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            return cls()

    def write(self, file: Path) -> None:
        """Replace the file."""
        with replaced_file(file) as stream:
            stream.write(self.model_dump_json().encode())


@contextmanager
def exclusive(file: Path, limit_s: float, is_stopped: Callable[[], bool]) -> Iterator[bool]:
    """Hold the lock in a file while the block runs; yield whether it was free within the limit."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield _locked(descriptor, limit_s, is_stopped)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, limit_s: float, is_stopped: Callable[[], bool]) -> bool:
    if sys.platform == "win32":  # where there is no flock, one process may mirror to a folder
        return True
    import fcntl

    deadline_s = time.monotonic() + limit_s
    while not is_stopped():
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(LOCK_POLL_S)
        else:
            return True
    return False
