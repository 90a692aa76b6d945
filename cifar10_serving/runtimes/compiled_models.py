"""A cache of compiled models: a folder with one file per model, so that the next start need not compile again.

The runtime decides what is cached under which key. A file that can't be read, is truncated or was changed counts as
missing, and a folder that isn't writable stores nothing; neither prevents a model from loading.

Cached content is machine code: anyone who can write to the folder controls what this process runs. The folder is
created for its owner only.
"""

import contextlib
import hashlib
import logging
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from cifar10_serving.artifacts.files import open_regular, replaced_file

SUFFIX: Final = ".compiled"
MAX_FOLDER_BYTES: Final = 2**30
"""Size limit; beyond it the least recently used files are deleted, as each version and release adds some."""
HEAD_BYTES: Final = mmap.PAGESIZE
"""Size of the header, so that the content starts on a page of its own."""
WORTH_SPLITTING: Final = 1.25
"""A core for each call may take this many times as long per image as one call on all cores: while the results of one
call are handed out, the others go on computing, and decoding on one core holds up a call on all cores at each layer."""
NOTHING: Final = np.zeros(0, np.uint8)

logger = logging.getLogger(__name__)


class Timing(BaseModel):
    """The time per image in batches of 8, in seconds, for both ways to divide the cores.

    `one_call_s` is for one call at a time on all cores; `a_core_a_call_s` is for as many concurrent calls as cores,
    None if it was not measured.
    """

    one_call_s: float
    a_core_a_call_s: float | None = None

    @property
    def splitting_pays(self) -> bool:
        """False if concurrent calls are known to be clearly slower."""
        return self.a_core_a_call_s is None or self.a_core_a_call_s < WORTH_SPLITTING * self.one_call_s

    @property
    def image_s(self) -> float:
        """The shorter time."""
        return min(self.one_call_s, self.a_core_a_call_s or self.one_call_s)


@dataclass(frozen=True)
class KeptModel:
    """A cached model, mapped from its file.

    `timing` was measured when it was compiled; `content` is the runtime's data, memory that its user must keep alive.
    """

    timing: Timing
    content: NDArray[np.uint8]
    _pages: mmap.mmap

    def release_pages(self) -> None:
        """Release the memory of the content; later accesses read the file again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)


class _Head(BaseModel):
    timing: Timing
    sha256: str


class CompiledModels:
    """A folder of compiled models, which several processes may share.

    Args:
        folder: the folder, created when first needed; None for no cache.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @property
    def is_on(self) -> bool:
        """True if the cache is used."""
        return self._folder is not None

    def find(self, key: str) -> KeptModel | None:
        """Return the content cached under this key, or None."""
        if self._folder is None:
            return None
        file = self._file(self._folder, key)
        try:
            with open_regular(self._folder, file.name) as stream:
                head = _Head.model_validate_json(stream.read(HEAD_BYTES))
                # A private mapping: writes to it would change only this process's memory.
                pages = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # ValueError: ValidationError, or mmap of an empty file
            logger.warning("ignoring %s: %s", file, error)
            return None
        content = np.frombuffer(pages, np.uint8, offset=HEAD_BYTES) if len(pages) > HEAD_BYTES else NOTHING
        if hashlib.sha256(content.data).hexdigest() != head.sha256:
            logger.warning("ignoring %s: its content does not match its checksum", file)
            return None
        with contextlib.suppress(OSError):
            os.utime(file)
        return KeptModel(head.timing, content, pages)

    def find_timing(self, key: str) -> Timing | None:
        """Return the timing cached under this key without reading the content, or None."""
        if self._folder is None:
            return None
        try:
            with open_regular(self._folder, self._file(self._folder, key).name) as stream:
                return _Head.model_validate_json(stream.read(HEAD_BYTES)).timing
        except (OSError, ValueError):  # `find` says why
            return None

    def keep(self, key: str, timing: Timing, content: bytes) -> None:
        """Store a model under this key, if the folder is writable."""
        if self._folder is None:
            return
        head = _Head(timing=timing, sha256=hashlib.sha256(content).hexdigest())
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replaced_file(self._file(self._folder, key)) as stream:
                stream.write(head.model_dump_json().encode().ljust(HEAD_BYTES))
                stream.write(content)
            self._delete_unused(self._folder)
        except OSError as error:
            logger.info("compiled models are not cached in %s: %s", self._folder, error.strerror or error)

    @staticmethod
    def _file(folder: Path, key: str) -> Path:
        return folder / f"{key}{SUFFIX}"

    @staticmethod
    def _delete_unused(folder: Path) -> None:
        found = [(file.stat(), file) for file in folder.glob(f"*{SUFFIX}")]
        total_bytes = 0
        for status, file in sorted(found, key=lambda entry: entry[0].st_mtime, reverse=True):
            total_bytes += status.st_size
            if total_bytes > MAX_FOLDER_BYTES:
                file.unlink(missing_ok=True)


def key_of(model_file: Path, circumstances: Mapping[str, str]) -> str:
    """Return the key of a model: 64 hexadecimal digits, depending on the circumstances that affect the result.

    Raises:
        OSError: the file can't be read.
    """
    with open_regular(model_file.parent, model_file.name) as stream:
        digest = hashlib.file_digest(stream, "sha256")
    for name, value in sorted(circumstances.items()):
        digest.update(f"\n{name}={value}".encode())
    return digest.hexdigest()
