"""What lies in the models folder: names, version numbers, and signatures that tell when files changed.

Looks at names, sizes and times only, so that looking every few seconds costs nothing; reads no file. What can't
be read at a moment counts as unchanged, not as gone.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from catalog.artifact import is_version_name
from catalog.rollout import SERVING_FILE
from service.core.model_version import FileSignature
from service.errors import SettingsError
from service.settings import variable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """One model's folder: its versions, and its serving.json (an empty signature where there is none)."""

    versions: Mapping[int, FileSignature]
    rollout: FileSignature


class ModelsFolder:
    """The folder that holds NAME/VERSION/."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[str, ModelFolder] = {}
        self._unreadable: set[str] = set()

    def scan(self) -> Mapping[str, ModelFolder]:
        """Every model with at least one version; hidden folders, such as those being written, are passed over.

        Raises:
            SettingsError: the folder is not there or can't be read.
        """
        try:
            names = sorted(entry.name for entry in _entries(self.path))
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            problem = "there is no such folder" if missing else f"it can't be read: {error.strerror}"
            raise SettingsError(
                f"{variable('models')} = {str(self.path)!r}: {problem}",
                expected="a folder with NAME/VERSION/ in it, as training publishes them",
                remedy="start in the project's folder, or give the folder's path",
            ) from None
        found = {name: self._scan_model(name) for name in names}
        self._found = {name: model for name, model in found.items() if model is not None and model.versions}
        return self._found

    def _scan_model(self, name: str) -> ModelFolder | None:
        folder = self.path / name
        if not name.isprintable():  # nor is what isn't UTF-8: no answer could name it
            if name not in self._unreadable:
                self._unreadable.add(name)
                logger.warning("%s is passed over: its name is not printable", folder)
            return None
        try:
            entries = {entry.name: entry for entry in _entries(folder)}
            versions = {
                int(entry.name): tuple(sorted(_files(Path(entry.path), "")))
                for entry in entries.values()
                if is_version_name(entry.name) and entry.is_dir()
            }
            rollout = (_signature(entries[SERVING_FILE], SERVING_FILE),) if SERVING_FILE in entries else ()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:  # such as the lost+found of a volume, or a network file system that hangs
            if name not in self._unreadable:
                self._unreadable.add(name)
                logger.warning("%s can't be read and is passed over: %s", folder, error.strerror)
            return self._found.get(name)
        self._unreadable.discard(name)
        return ModelFolder(versions, rollout)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, int, int]]:
    try:
        for entry in list(_entries(folder)):
            name = f"{prefix}{entry.name}"
            if entry.is_dir():
                yield from _files(Path(entry.path), f"{name}/")
            else:
                yield _signature(entry, name)
    except FileNotFoundError:  # being withdrawn at this moment: what is left is a change like any other
        return


def _signature(entry: os.DirEntry[str], name: str) -> tuple[str, int, int]:
    status = entry.stat()
    return name, status.st_mtime_ns, status.st_size
