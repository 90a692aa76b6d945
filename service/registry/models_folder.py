"""The content of the models folder: names, version numbers, and file signatures that reveal changes.

A scan reads only names, sizes, times, serving.json and tutorial.json, so scanning every few seconds is cheap. A folder
that can't be read at the moment counts as unchanged, not as removed. The folder of a model or a version may be a
symbolic link, which is a common way to deploy; links to folders inside a version are not followed.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.documents import printable
from cifar10_serving.artifacts.files import MAX_ENTRIES
from cifar10_serving.artifacts.layout import is_version_name
from cifar10_serving.artifacts.rollout import SERVING_FILE, Rollout, read_rollout
from cifar10_serving.artifacts.tutorial import TUTORIAL_FILE, TutorialResult, read_tutorial
from cifar10_serving.errors import RolloutError
from service.errors import SettingsError
from service.registry.loading import BoundedCalls, UnresponsiveError
from service.registry.version import FileSignature
from service.settings import variable

MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_VERSIONS: Final = 1_000
"""Limit per model; older versions are ignored."""
LOOK_LIMIT_S: Final = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """One model's folder: its versions, its serving.json and its tutorial.json; empty signatures for missing files.

    `failed` has the reasons of versions that are published elsewhere and could not be mirrored.
    """

    versions: Mapping[int, FileSignature]
    rollout: FileSignature
    tutorial: FileSignature = ()
    failed: Mapping[int, str] = field(default_factory=dict)


class ModelsFolder:
    """The folder that contains NAME/VERSION/."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[str, ModelFolder] = {}
        self._reported: dict[str, str] = {}
        self._calls = BoundedCalls()

    def scan(self) -> Mapping[str, ModelFolder]:
        """Return every model with at least one version; ignore hidden folders, such as those that are being written.

        Raises:
            SettingsError: the folder does not exist or can't be read.
        """
        models = {name: self._scan_model(name) for name in self._names() if self._is_model_name(name)}
        found = {name: model for name, model in models.items() if model is not None and model.versions}
        if found != self._found:
            # The whole folder may have been moved away, or back, since its names were read: no model was removed then.
            missing = {name for name, model in models.items() if model is None} & self._found.keys()
            found |= {name: self._found[name] for name in self._names() if name in missing}
        self._found = found
        return found

    def _names(self) -> list[str]:
        """Return the names of all entries that are not hidden.

        Raises:
            SettingsError: the folder does not exist or can't be read.
        """
        try:
            return self._calls.run("models", lambda: sorted(entry.name for entry in _entries(self.path)), LOOK_LIMIT_S)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            problem = "there is no such folder" if missing else f"it can't be read: {error.strerror}"
            raise SettingsError(
                f"{variable('models')} = {str(self.path)!r}: {problem}",
                expected="a folder that contains NAME/VERSION/, as training publishes them",
                remedy="start in the project's folder, or give the folder's path",
            ) from None

    def read_rollout(self, name: str) -> Rollout | None:
        """Read a model's serving.json; see `cifar10_serving.artifacts.rollout.read_rollout`.

        Raises:
            RolloutError: the file is invalid, or reading it hangs.
        """
        try:
            return self._calls.run(f"{name}/{SERVING_FILE}", lambda: read_rollout(self.path, name), LOOK_LIMIT_S)
        except UnresponsiveError as error:
            raise RolloutError(f"{name}/{SERVING_FILE}: {error.strerror}") from None

    def read_tutorial(self, name: str) -> TutorialResult | None:
        """Read a model's tutorial.json; return None if it is missing or can't be read."""
        try:
            return self._calls.run(f"{name}/{TUTORIAL_FILE}", lambda: read_tutorial(self.path, name), LOOK_LIMIT_S)
        except UnresponsiveError:
            return None

    def stop(self) -> None:
        """Abandon the current scan and all later ones."""
        self._calls.stop()

    def _is_model_name(self, name: str) -> bool:
        is_legal = MODEL_NAME.fullmatch(name) is not None
        if not is_legal:
            self._report(name, "is not a valid model name; ignored")
        return is_legal

    def _scan_model(self, name: str) -> ModelFolder | None:
        try:
            known = self._found.get(name)
            found = self._calls.run(name, lambda: _model(self.path / name, known), LOOK_LIMIT_S)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:  # such as the lost+found of a volume, or a network file system that hangs
            self._report(name, f"can't be read; ignored: {error.strerror}")
            return self._found.get(name)
        if len(found.versions) == MAX_VERSIONS:
            self._report(name, f"may have more than {MAX_VERSIONS:,} versions; older ones are ignored")
        else:
            self._reported.pop(name, None)
        return found

    def _report(self, name: str, problem: str) -> None:
        if self._reported.get(name) != problem:
            self._reported[name] = problem
            logger.warning("%s %s", self.path / printable(name), problem)


def with_failed(found: Mapping[str, ModelFolder], failed: Mapping[str, Mapping[int, str]]) -> Mapping[str, ModelFolder]:
    """Return the content of a mirror together with the versions that could not be mirrored, by model."""
    together = dict(found)
    for name, reasons in failed.items():
        folder = together.get(name, ModelFolder({}, ()))
        missing = {version: reason for version, reason in reasons.items() if version not in folder.versions}
        # The reason takes the place of files, so that another reason is a change.
        versions = {**folder.versions, **{version: ((reason, 0, 0),) for version, reason in missing.items()}}
        together[name] = replace(folder, versions=versions, failed=missing)
    return together


def _model(folder: Path, known: ModelFolder | None) -> ModelFolder:
    entries = {entry.name: entry for entry in _entries(folder)}
    numbers = sorted((int(name) for name in entries if is_version_name(name)), reverse=True)
    folders = [number for number in numbers if _may_be_folder(entries[str(number)])][:MAX_VERSIONS]
    versions = {
        number: _version(folder / str(number), known.versions.get(number) if known else None) for number in folders
    }
    return ModelFolder(versions, _signatures(entries, SERVING_FILE), _signatures(entries, TUTORIAL_FILE))


def _signatures(entries: Mapping[str, "os.DirEntry[str]"], name: str) -> FileSignature:
    with suppress(FileNotFoundError):  # being replaced right now
        return (_signature(entries[name], name),) if name in entries else ()
    return ()


def _may_be_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself: loading it will report the error
        return True


def _version(folder: Path, known: FileSignature | None) -> FileSignature:
    """Return the signatures of a version's files; if they can't be read, the known ones or none."""
    try:
        return tuple(sorted(_files(folder)))
    except OSError:
        return known or ()


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Return the signatures of all files in a folder, up to the limit for a version."""
    found: list[tuple[str, int, int]] = []
    unlisted, listed = [""], 0
    while unlisted and len(found) + listed <= MAX_ENTRIES:
        prefix = unlisted.pop()
        listed += 1
        try:
            for entry in _entries(folder / prefix):
                name = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    unlisted.append(f"{name}/")
                else:
                    found.append(_signature(entry, name))
                if len(found) + len(unlisted) > MAX_ENTRIES:
                    break
        except FileNotFoundError:  # being withdrawn: the rest is a change like any other
            continue
    return found


def _signature(entry: "os.DirEntry[str]", name: str) -> tuple[str, int, int]:
    try:
        status = entry.stat()
    except OSError:  # a link to nothing or to itself
        status = entry.stat(follow_symlinks=False)
    return name, status.st_mtime_ns, status.st_size
