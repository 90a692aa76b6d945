"""Keeps what a runtime made of a model, so that the next start need not make it again: a folder, one file a model.

What is kept, under which key, and what it is worth is the runtime's part. A file that can't be read, was cut short or
changed counts as not there, and a folder that can't be written to keeps nothing: neither stops a model from loading.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from catalog.replaced_file import replaced_file

SUFFIX: Final = ".compiled"
MAX_FOLDER_BYTES: Final = 2**30
"""Past this, those that were used longest ago are deleted: each new version and each new release leaves some behind."""
MOST_HEAD_BYTES: Final = 4096

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompiledModel:
    """What was made of a model.

    `image_s` is how long an image took among others, in seconds, when all cores shared a call; `content` what the
    runtime wrote.
    """

    image_s: float
    content: bytes


class _Head(BaseModel):
    image_s: float
    sha256: str


class CompiledModels:
    """A folder of compiled models, which several processes may share.

    Args:
        folder: is made when there is something to keep; None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return self._folder is not None

    def find(self, key: str) -> CompiledModel | None:
        """What was kept under this key, whole."""
        if self._folder is None:
            return None
        file = self._file(self._folder, key)
        try:
            with file.open("rb") as stream:
                head = _Head.model_validate_json(stream.readline(MOST_HEAD_BYTES))
                content = stream.read()
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            logger.warning("%s is not used: %s", file, error)
            return None
        if hashlib.sha256(content).hexdigest() != head.sha256:
            logger.warning("%s is not used: it is not what was written", file)
            return None
        with contextlib.suppress(OSError):
            os.utime(file)
        return CompiledModel(image_s=head.image_s, content=content)

    def keep(self, key: str, compiled: CompiledModel) -> None:
        """Write a model, in place of an earlier one of this key, if the folder can be written to."""
        if self._folder is None:
            return
        head = _Head(image_s=compiled.image_s, sha256=hashlib.sha256(compiled.content).hexdigest())
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replaced_file(self._file(self._folder, key)) as stream:
                stream.write(head.model_dump_json().encode() + b"\n")
                stream.write(compiled.content)
            self._delete_unused(self._folder)
        except OSError as error:
            logger.info("compiled models are not kept in %s: %s", self._folder, error.strerror or error)

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
    """The key of a model under the circumstances that decide what is made of it: 64 hexadecimal digits.

    Raises:
        OSError: the file can't be read.
    """
    with model_file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    for name, value in sorted(circumstances.items()):
        digest.update(f"\n{name}={value}".encode())
    return digest.hexdigest()
