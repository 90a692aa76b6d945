"""From what the command line names (files, folders, patterns, standard input) to the images that are asked about."""

import glob
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client._images import ImageSource
from client.commands.errors import CommandLineError

STANDARD_INPUT: Final = "-"
IMAGE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
"""What is taken from a folder; a file that is named itself is always taken."""


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image and the name that it is shown by; `path` is None for standard input."""

    name: str
    image: ImageSource
    path: Path | None


def named_images(names: Iterable[str]) -> list[NamedImage]:
    """The images that the names stand for, in their order; those of a folder or pattern sorted.

    Raises:
        CommandLineError: a folder holds no image, or a pattern fits no file.
    """
    found: list[NamedImage] = []
    for name in names:
        if name == STANDARD_INPUT:
            found.append(NamedImage(name, sys.stdin.buffer.read(), None))
        else:
            found += [NamedImage(str(path), _image_at(path), path) for path in _files_of(name)]
    return found


def _image_at(path: Path) -> ImageSource:
    """The path; a named pipe is read here, as standard input is: a thread that waits for it would outlive Ctrl-C."""
    try:
        return path.read_bytes() if path.is_fifo() else path
    except OSError:
        return path  # why it can't be read is said in its turn


def _files_of(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        return _in_folder(path)
    if path.exists() or not glob.has_magic(name):
        return [path]
    found = sorted(glob.glob(name, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute pattern
    files = [Path(match) for match in found if not Path(match).is_dir()]
    if not files:
        raise CommandLineError(f"no file fits the pattern '{name}'")
    return files


def _in_folder(folder: Path) -> list[Path]:
    files = sorted(_images_below(folder))
    if not files:
        raise CommandLineError(
            f"the folder {folder} holds no image", expected=f"files that end in {', '.join(IMAGE_SUFFIXES)}"
        )
    return files


def _images_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in IMAGE_SUFFIXES and not hidden and path.is_file():
            yield path


def one_image(name: str) -> ImageSource:
    """The image that a command takes one of."""
    return sys.stdin.buffer.read() if name == STANDARD_INPUT else Path(name)
