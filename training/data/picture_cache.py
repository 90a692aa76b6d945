"""Decode listed pictures once into a file that later runs map into memory.

The file's name contains a hash of every picture's path, size and time, of the size of the decoded pixels and of the
rules. Pictures are decoded by a few threads and written one after another, so memory holds a few of them at a time, and
the operating system pages the file in and out. The index beside it is written last and names what can't be read.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import PIL
from pydantic import BaseModel, ConfigDict, ValidationError

from cifar10_serving.artifacts.files import replaced_file
from cifar10_serving.artifacts.metadata import InputShape
from cifar10_serving.runtimes.base import Images
from cifar10_serving.runtimes.machine import usable_cores
from training.data.decoding import RULES, UnreadablePictureError, decode
from training.data.listing import Listing, PictureFile
from training.errors import CheckpointError, DatasetError
from training.progress import Progress

WAITING_PER_THREAD: Final = 4
"""Decoded pictures that wait to be written, for each thread."""


@dataclass(frozen=True)
class DecodedPictures:
    """Pictures (n, height, width, 3) uint8, memory-mapped, and for each its file and the SHA-256 of that file."""

    images: Images
    files: list[PictureFile]
    sha256: list[str]
    unreadable: list[tuple[PictureFile, str]]
    """Files that are no picture or damaged, each with the reason."""


class _Index(BaseModel):
    """SHA-256 of each file in the order of the listing, and the reasons for those that can't be read."""

    model_config = ConfigDict(extra="forbid")

    sha256: list[str]
    unreadable: dict[int, str]


@dataclass(frozen=True)
class _Decoded:
    sha256: str
    pixels: bytes | None
    reason: str = ""


def decoded_pictures(listing: Listing, shape: InputShape, *, folder: Path, progress: Progress) -> DecodedPictures:
    """Return the pictures of a listing, decoded now or by an earlier run.

    Args:
        listing: the files.
        shape: height, width and channels of the decoded pictures.
        folder: holds the files; created if it doesn't exist.
        progress: is notified of the progress.

    Raises:
        DatasetError: no file can be read.
        CheckpointError: the folder can't be written to; no incomplete file is left behind.
    """
    stem = folder / f"pictures-{_fingerprint(listing, shape)}"
    pixels_file, index_file = stem.with_suffix(".bin"), stem.with_suffix(".json")
    image_bytes = int(np.prod(shape))
    index = _read_index(index_file, pixels_file, len(listing.files), image_bytes)
    if index is None:
        progress.tell(f"decoding {len(listing.files):,} pictures to {shape[1]}x{shape[0]} pixels (cached in {folder})")
        index = _write(listing, shape, pixels_file, index_file, progress)
    readable = [row for row in range(len(listing.files)) if row not in index.unreadable]
    if not readable:
        row, reason = next(iter(index.unreadable.items()))
        raise DatasetError(
            f"none of the {len(listing.files):,} files in {listing.root} can be read, "
            f"such as {listing.files[row].name}: {reason}",
            expected="pictures in a format that Pillow opens",
        )
    return DecodedPictures(
        np.memmap(pixels_file, np.uint8, "r", shape=(len(readable), *shape)),
        [listing.files[row] for row in readable],
        [index.sha256[row] for row in readable],
        [(listing.files[row], reason) for row, reason in index.unreadable.items()],
    )


def _fingerprint(listing: Listing, shape: InputShape) -> str:
    digest = hashlib.sha256(f"{shape} {RULES} {PIL.__version__}".encode())
    for file in listing.files:
        path = listing.root / file.name
        try:
            status = path.stat()
        except OSError:
            stamp = "missing"
        else:
            stamp = f"{status.st_size} {status.st_mtime_ns}"
        digest.update(f"{json.dumps(str(path.absolute()))} {stamp}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _read_index(index_file: Path, pixels_file: Path, count: int, image_bytes: int) -> _Index | None:
    """Return a complete index that fits its pixels; None if there is none."""
    try:
        index = _Index.model_validate_json(index_file.read_bytes())
        found_bytes = pixels_file.stat().st_size
    except (OSError, ValidationError):
        return None
    is_complete = len(index.sha256) == count and found_bytes == (count - len(index.unreadable)) * image_bytes
    return index if is_complete else None


def _write(listing: Listing, shape: InputShape, pixels_file: Path, index_file: Path, progress: Progress) -> _Index:
    """Write to plain files: with a memory-mapped file, a full disk would kill the process."""
    index = _Index(sha256=[], unreadable={})
    progress.start("decoding", len(listing.files))
    paths = (listing.root / file.name for file in listing.files)
    try:
        pixels_file.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(pixels_file) as stream:
            for row, picture in enumerate(_decode_all(paths, shape)):
                index.sha256.append(picture.sha256)
                if picture.pixels is None:
                    index.unreadable[row] = picture.reason
                else:
                    stream.write(picture.pixels)
                progress.advance(1)
        with replaced_file(index_file) as stream:
            stream.write(index.model_dump_json().encode())
    except OSError as error:
        raise CheckpointError(
            f"can't write {pixels_file}: {error.strerror}",
            expected=f"a writable folder with {len(listing.files) * int(np.prod(shape)):,} bytes of free space",
            remedy="free up space, or choose another folder with --checkpoints",
        ) from None
    return index


def _decode_all(paths: Iterable[Path], shape: InputShape) -> Iterator[_Decoded]:
    """Decode in several threads, a few pictures ahead of the one that is taken; Pillow releases the GIL."""
    threads = usable_cores()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as executor:
        waiting: deque[Future[_Decoded]] = deque()
        try:
            for path in paths:
                waiting.append(executor.submit(partial(_decode_file, shape=shape), path))
                if len(waiting) > WAITING_PER_THREAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _decode_file(path: Path, *, shape: InputShape) -> _Decoded:
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        return _Decoded("", None, (error.strerror if isinstance(error, OSError) else None) or str(error))
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        return _Decoded(sha256, decode(content, shape).tobytes())
    except UnreadablePictureError as error:
        return _Decoded(sha256, None, str(error))
