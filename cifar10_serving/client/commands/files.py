"""From command-line arguments (files, folders, patterns, standard input) to images."""

import glob
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from cifar10_serving.client._errors import ImageSourceError
from cifar10_serving.client._images import SIGNATURE_BYTES, ImageSource, image_type, read_all, truncated_repr
from cifar10_serving.client.commands.exit_codes import CommandLineError
from cifar10_serving.image_names import IMAGE_SUFFIXES

STANDARD_INPUT: Final = "-"
MAX_ENDINGS_SHOWN: Final = 3
"""Maximum number of extensions named in the report of skipped files."""


class Reason(Enum):
    """Reasons to skip a file in a folder, in the singular and plural."""

    HIDDEN = ("hidden", "hidden")
    LINK_TO_FOLDER = ("link to a folder", "links to folders")
    BROKEN_LINK = ("broken link", "broken links")
    SPECIAL = ("pipe, socket or device", "pipes, sockets or devices")
    EMPTY = ("empty and not named as an image", "empty and not named as images")
    UNREADABLE = ("not readable and not named as an image", "not readable and not named as images")
    NO_IMAGE = ("not an image by name or content", "not images by name or content")
    CLOSED_FOLDER = ("folder that can't be read", "folders that can't be read")


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image with its displayed name; `path` is None for standard input."""

    name: str
    image: ImageSource
    path: Path | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Numbers of skipped files in folders, by reason, and the extensions of files that are not images."""

    reasons: Counter[Reason] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)

    def add(self, reason: Reason, name: str) -> None:
        """Count one file."""
        self.reasons[reason] += 1
        if reason is Reason.NO_IMAGE:
            self.endings[Path(name).suffix.lower() or "no extension"] += 1

    def update(self, other: "LeftOut") -> None:
        """Add the counts of another folder."""
        self.reasons.update(other.reasons)
        self.endings.update(other.endings)

    def __bool__(self) -> bool:
        return bool(self.reasons)

    def __str__(self) -> str:
        """Return `skipped 3 files: 2 not images by name or content (.txt 1, .pdf 1), 1 hidden`."""
        reasons = (self._describe(reason, count) for reason, count in self.reasons.most_common())
        total = self.reasons.total()
        return f"skipped {total:,} {'file' if total == 1 else 'files'}: {', '.join(reasons)}"

    def _describe(self, reason: Reason, count: int) -> str:
        words = f"{count:,} {reason.value[0 if count == 1 else 1]}"
        if reason is not Reason.NO_IMAGE:
            return words
        endings = [
            f"{truncated_repr(ending)} {number:,}" for ending, number in self.endings.most_common(MAX_ENDINGS_SHOWN)
        ]
        return f"{words} ({', '.join([*endings, *(['…'] if len(self.endings) > MAX_ENDINGS_SHOWN else [])])})"


@dataclass(frozen=True, slots=True)
class Found:
    """The images that the arguments select, and the skipped files."""

    images: list[NamedImage] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)


def find_images(names: Iterable[str]) -> Found:
    """Return the selected images in the order of the arguments; those of a folder or pattern are sorted.

    Raises:
        CommandLineError: a folder contains no image, or a pattern matches no file.
        ImageSourceError: standard input or a named pipe has more bytes than any service accepts.
    """
    found = Found()
    for name in names:
        if name == STANDARD_INPUT:
            found.images.append(NamedImage(name, standard_input(), None))
        else:
            paths = _files_of(name, found.left_out)
            found.images.extend(NamedImage(str(path), _image_at(path), path) for path in paths)
    return found


def one_image(name: str) -> ImageSource:
    """Return the image for a command that takes one."""
    return standard_input() if name == STANDARD_INPUT else _image_at(Path(name))


def standard_input() -> bytes:
    """Read standard input to its end.

    Raises:
        CommandLineError: it is closed, or can't be read.
        ImageSourceError: it has more bytes than any service accepts.
    """
    if sys.stdin is None:
        raise CommandLineError("standard input is closed", expected="an image")
    try:
        return read_all(sys.stdin.buffer, "standard input")
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or error
        raise CommandLineError(f"standard input can't be read: {words}") from error


def _image_at(path: Path) -> ImageSource:
    """Return the path, or the content of a named pipe; a thread that waits for a pipe would outlive Ctrl-C."""
    try:
        if not path.is_fifo():
            return path
        with path.open("rb") as pipe:
            return read_all(pipe, path)
    except ImageSourceError:
        raise
    except (OSError, ValueError):
        return path  # the error is reported when it is read


def _files_of(name: str, left_out: LeftOut) -> list[Path]:
    if not name:
        raise CommandLineError("a file's name is empty", expected="the name of a file, a folder or a pattern")
    path = Path(name)
    if _is_folder(path):
        return _in_folder(path, left_out)
    if not glob.has_magic(name) or _exists(path):
        return [path]
    files = _matches(name)
    if not files:
        raise CommandLineError(f"no file matches the pattern '{truncated_repr(name)}'")
    return files


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a folder above is not accessible, or the name is too long
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _matches(pattern: str) -> list[Path]:
    """Return the files that match a pattern, sorted; hidden ones only if the pattern names them.

    This uses pathlib, whose `**` doesn't follow links to folders; `glob` does, and follows a loop of links forty times.
    """
    parts = Path(pattern).parts
    literal = next(at for at, part in enumerate(parts) if glob.has_magic(part))
    base, wanted = Path(*parts[:literal]), [re.sub(r"\*\*+", "*", part) if part != "**" else part for part in parts]
    wanted = wanted[literal:] + (["*"] if wanted[-1] == "**" else [])
    try:
        found = list(base.glob("/".join(wanted)))
    except (OSError, ValueError, NotImplementedError, RecursionError) as error:
        words = getattr(error, "strerror", None) or error
        raise CommandLineError(f"the pattern '{truncated_repr(pattern)}' can't be followed: {words}") from error
    names_hidden = any(part.startswith(".") for part in wanted)
    return sorted(
        path
        for path in found
        if (names_hidden or not any(part.startswith(".") for part in path.parts[len(base.parts) :]))
        and not _is_folder(path)
    )


def _in_folder(folder: Path, left_out: LeftOut) -> list[Path]:
    here = LeftOut()
    files = sorted(_images_below(folder, here))
    left_out.update(here)
    if not files:
        raise CommandLineError(
            f"the folder {truncated_repr(folder)} contains no image" + (f"; {here}" if here else ""),
            expected=f"files with one of the extensions {', '.join(IMAGE_SUFFIXES)}",
        )
    return files


def _images_below(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    waiting = [folder]  # not recursive: folders may be nested deeper than Python's stack
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                        waiting.append(Path(entry.path))
                    elif reason := _why_not(entry):
                        left_out.add(reason, entry.name)
                    else:
                        yield Path(entry.path)
        except OSError as error:
            if here == folder:
                words = error.strerror or error
                raise CommandLineError(f"the folder {truncated_repr(folder)} can't be read: {words}") from error
            left_out.add(Reason.CLOSED_FOLDER, here.name)


def _why_not(entry: os.DirEntry[str]) -> Reason | None:
    """Return the reason to skip an entry of a folder that is not a folder; None for an image."""
    if entry.name.startswith("."):
        return Reason.HIDDEN
    try:
        status = entry.stat()
    except OSError:
        return Reason.BROKEN_LINK if entry.is_symlink() else Reason.UNREADABLE
    if not stat.S_ISREG(status.st_mode):
        return Reason.LINK_TO_FOLDER if stat.S_ISDIR(status.st_mode) else Reason.SPECIAL
    if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
        return None
    return _why_not_by_content(entry.path) if status.st_size else Reason.EMPTY


def _why_not_by_content(path: str) -> Reason | None:
    try:
        with Path(path).open("rb", buffering=0) as file:
            return None if image_type(file.read(SIGNATURE_BYTES)) else Reason.NO_IMAGE
    except OSError:
        return Reason.UNREADABLE
