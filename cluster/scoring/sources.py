"""Inputs: a folder of images, Parquet files, or WebDataset tars, cut into parts that are scored one by one.

The parts of an unchanged input are always the same, in the same order, so a run that goes on after it was killed finds
the parts that it has written. Nothing here holds more than one folder's names, or one chunk of images.
"""

import hashlib
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, Protocol

from cifar10_serving.image_names import IMAGE_SUFFIXES
from cifar10_serving.text import printable
from cluster.scoring.errors import ScoringError, ScoringUsageError, UnreadableInputError
from cluster.scoring.storage import Entry, Storage, open_storage, parent_and_name, too_large

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK_IMAGES: Final = 128
"""Number of images that are read and decoded in a row: four batches, since a decoder is faster while it is in the
processor's cache."""
CHUNK_PIXEL_BYTES: Final = 32 * 2**20
"""Size of a chunk's pixels at which it has fewer images."""
MIN_CHUNK_IMAGES: Final = 8
CHUNK_BYTES: Final = 8 * 2**20
"""Size of file contents at which a chunk ends earlier, so that photos don't fill the memory."""
DIGEST_CHARACTERS: Final = 12
PARTS: Final = 64
MIN_PART_IMAGES: Final = 256
MAX_PART_IMAGES: Final = 65_536

Kind = Literal["images", "parquet", "webdataset"]
Content = bytes | UnreadableInputError
SUFFIX: Final[dict[str, Kind]] = {
    ".parquet": "parquet",
    ".tar": "webdataset",
    **dict.fromkeys(IMAGE_SUFFIXES, "images"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the input that becomes one file of the output.

    Args:
        number: its position, from 0.
        digest: depends on the names, sizes and modification times of what it is read from.
        size: its share of `Source.total`.
        place: what `Source.chunks` needs to read it.
    """

    number: int
    digest: str
    size: int
    place: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A few images of a part.

    Args:
        keys: the names of the images in the output.
        contents: returns their files; called by the thread that scores them.
        size: the chunk's share of the part's size.
    """

    keys: Sequence[str]
    contents: Callable[[], Sequence[Content]]
    size: int


class Source(Protocol):
    """The images of one input."""

    kind: Kind
    unit: Literal["images", "bytes"]
    """The unit of sizes."""

    @property
    def skipped(self) -> int:
        """The number of files that `total` has passed over, because they are no input of this kind by name."""
        ...

    def total(self) -> int:
        """Return the size of the whole input.

        Raises:
            ScoringUsageError: there is nothing to score.
        """
        ...

    def parts(self, part_images: int) -> Iterator[Part]:
        """Yield the parts, always in the same order.

        Args:
            part_images: number of images in a part of a folder; the least one of Parquet's, and tars have their own.

        Raises:
            ScoringError: the input can't be listed or read.
        """
        ...

    def chunks(self, part: Part) -> Iterator[Chunk]:
        """Yield the images of a part, each once.

        Raises:
            ScoringError: the part can't be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Options for reading an input.

    Args:
        kind: the kind of input; None to tell it from the files' names.
        column: Parquet: the column with the images, as bytes or as paths; None if there is one that may be meant.
        key_column: Parquet: the column with the keys; None for `FILE#ROW`.
        max_bytes: maximum size of an image's file.
        chunk_images: number of images in a chunk, see `chunk_images_for`.
    """

    kind: Kind | None = None
    column: str | None = None
    key_column: str | None = None
    max_bytes: int = 20 * 2**20
    chunk_images: int = CHUNK_IMAGES


def open_source(url: str, options: SourceOptions) -> Source:
    """Return the source for a folder, a file or an address.

    Raises:
        ScoringUsageError: it holds nothing to score, or several kinds of input.
    """
    suffix = PurePosixPath(url).suffix.lower()
    if SUFFIX.get(suffix, "images") != "images":
        parent, name = parent_and_name(url)
        storage, only, found = open_storage(parent), name, SUFFIX[suffix]
    else:
        storage, only = open_storage(url), None
        found = options.kind or _kind_of(storage)
    if options.kind not in (None, found):
        raise ScoringUsageError(f"{url} is {found} by its name, and --format says {options.kind}")
    files = _Files(storage, found, only)
    if found == "images":
        return FolderSource(files, options)
    return ParquetSource(files, options) if found == "parquet" else TarSource(files, options)


def _kind_of(storage: Storage) -> Kind:
    """Return the kind of the files in a folder; the first of a kind that holds other files, or a folder of images."""
    counts: dict[Kind, int] = {}
    for entry in storage.walk():
        kind = SUFFIX.get(PurePosixPath(entry.path).suffix.lower())
        if kind is not None:
            counts[kind] = counts.get(kind, 0) + 1
    if not counts:
        raise ScoringUsageError(
            f"{storage.url} holds nothing to score",
            expected="images, .parquet files or .tar files, in it or in folders below it",
        )
    if len(counts) > 1:
        numbers = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))
        raise ScoringUsageError(f"{storage.url} holds several kinds of input: {numbers}", remedy="choose with --format")
    return next(iter(counts))


class _Files:
    """The files of one kind in a folder, or only one of them."""

    def __init__(self, storage: Storage, kind: Kind, only: str | None) -> None:
        self.storage = storage
        self._kind = kind
        self._only = only
        self.skipped = 0

    def __iter__(self) -> Iterator[Entry]:
        self.skipped = 0
        found = False
        for entry in self.storage.walk():
            if self._only is not None:
                matches = entry.path == self._only
            else:
                matches = SUFFIX.get(PurePosixPath(entry.path).suffix.lower()) == self._kind
                self.skipped += not matches
            if matches:
                found = True
                yield entry
        if not found:
            name = f"{self._only} in " if self._only is not None else ""
            raise ScoringUsageError(f"{name}{self.storage.url}: there is no input of the format {self._kind}")


class _FileSource:
    """The part that all kinds of sources share: the files, and the options for reading them."""

    def __init__(self, files: _Files, options: SourceOptions) -> None:
        self._files = files
        self._options = options

    @property
    def skipped(self) -> int:
        """See `Source.skipped`."""
        return self._files.skipped


class FolderSource(_FileSource):
    """Images in a folder and in folders below it; keys are paths relative to it."""

    kind: Kind = "images"
    unit: Literal["images", "bytes"] = "images"

    def total(self) -> int:
        """See `Source.total`."""
        return sum(1 for _ in self._files)

    def parts(self, part_images: int) -> Iterator[Part]:
        """See `Source.parts`."""
        entries = iter(self._files)
        number = 0
        while group := list(islice(entries, part_images)):
            yield Part(number, _digest(group), len(group), tuple((entry.path, entry.size_bytes) for entry in group))
            number += 1

    def chunks(self, part: Part) -> Iterator[Chunk]:
        """See `Source.chunks`."""
        keys: list[str] = []
        content_bytes = 0
        for path, size_bytes in part.place:
            keys.append(path)
            content_bytes += size_bytes
            if len(keys) == self._options.chunk_images or content_bytes >= CHUNK_BYTES:
                yield self._chunk(keys)
                keys, content_bytes = [], 0
        if keys:
            yield self._chunk(keys)

    def _chunk(self, keys: list[str]) -> Chunk:
        return Chunk(keys, partial(self._files.storage.read, keys, self._options.max_bytes), len(keys))


class ParquetSource(_FileSource):
    """Rows of Parquet files; a part is one row group, or several small ones of a file."""

    kind: Kind = "parquet"
    unit: Literal["images", "bytes"] = "images"

    def total(self) -> int:
        """See `Source.total`."""
        return sum(sum(self._group_rows(entry)) for entry in self._files)

    def parts(self, part_images: int) -> Iterator[Part]:
        """See `Source.parts`."""
        number = 0
        for entry in self._files:
            first_row, groups, rows = 0, [], 0
            counts = self._group_rows(entry)
            for group, count in enumerate(counts):
                groups.append(group)
                rows += count
                if rows >= part_images or group == len(counts) - 1:
                    yield Part(number, _digest([entry], *groups), rows, (entry.path, tuple(groups), first_row))
                    number += 1
                    first_row, groups, rows = first_row + rows, [], 0

    def chunks(self, part: Part) -> Iterator[Chunk]:
        """See `Source.chunks`."""
        name, groups, row = part.place
        with self._files.storage.open(name) as stream, _reading(name):
            file = _parquet_file(stream)
            column = self._column(file.schema_arrow, name)
            columns = [column, *([self._options.key_column] if self._options.key_column else [])]
            for batch in file.iter_batches(
                _batch_rows(file, groups, self._options.chunk_images), row_groups=list(groups), columns=columns
            ):
                keys = self._keys(batch, name, row)
                row += len(keys)
                yield self._chunk(keys, self._contents(batch.column(column)))

    def _chunk(self, keys: Sequence[str], contents: Sequence[bytes | str | None]) -> Chunk:
        return Chunk(keys, partial(self._read, contents), len(keys))

    def _read(self, contents: Sequence[bytes | str | None]) -> list[Content]:
        """Return the images' files; those that the rows only name are read now."""
        paths = [content for content in contents if isinstance(content, str)]
        read = iter(self._files.storage.read(paths, self._options.max_bytes) if paths else [])
        return _limited(
            [next(read) if isinstance(content, str) else content for content in contents], self._options.max_bytes
        )

    def _group_rows(self, entry: Entry) -> list[int]:
        with self._files.storage.open(entry.path) as stream, _reading(entry.path):
            file = _parquet_file(stream)
            self._column(file.schema_arrow, entry.path)
            return [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]

    def _column(self, schema: "pa.Schema", name: str) -> str:
        """Return the column with the images.

        Raises:
            ScoringUsageError: it is not there, can't hold images, or several may be meant.
        """
        if self._options.key_column is not None and self._options.key_column not in schema.names:
            raise _no_column(name, self._options.key_column, schema)
        wanted = self._options.column
        if wanted is not None and wanted not in schema.names:
            raise _no_column(name, wanted, schema)
        asked = [wanted] if wanted is not None else [each for each in schema.names if each != self._options.key_column]
        kinds = {each: _holds(schema.field(each).type) for each in asked}
        # A column of text is more often a label than a path, so it has to be named.
        found = [each for each, kind in kinds.items() if kind == "bytes" or (kind == "paths" and wanted is not None)]
        if len(found) != 1:
            raise ScoringUsageError(
                f"{name} has no single column of images: {', '.join(map(str, schema))}",
                expected="a column of bytes, of {bytes, path}, or of paths",
                remedy="name it with --column",
            )
        return found[0]

    def _keys(self, batch: Any, name: str, first_row: int) -> list[str]:
        if self._options.key_column is None:
            return [f"{name}#{first_row + row}" for row in range(batch.num_rows)]
        return [str(key) for key in batch.column(self._options.key_column).to_pylist()]

    def _contents(self, column: Any) -> list[bytes | str | None]:
        """Return each image's bytes, or the path of its file."""
        values = column.to_pylist()
        if _holds(column.type) == "bytes" and values and isinstance(next(filter(None, values), None), dict):
            return [None if value is None else value["bytes"] or value.get("path") for value in values]
        return list(values)


class TarSource(_FileSource):
    """WebDataset shards; a part is one tar, and keys are `SHARD/MEMBER`."""

    kind: Kind = "webdataset"
    unit: Literal["images", "bytes"] = "bytes"

    def total(self) -> int:
        """See `Source.total`."""
        return sum(entry.size_bytes for entry in self._files)

    def parts(self, part_images: int) -> Iterator[Part]:  # noqa: ARG002  # the tars have sizes of their own
        """See `Source.parts`."""
        for number, entry in enumerate(self._files):
            yield Part(number, _digest([entry]), entry.size_bytes, entry.path)

    def chunks(self, part: Part) -> Iterator[Chunk]:
        """See `Source.chunks`; members that are no images by name are passed over, such as labels."""
        name, read_bytes = part.place, 0
        keys: list[str] = []
        contents: list[bytes] = []
        with self._files.storage.open(name) as stream, _reading(name):
            for member, content in self._members(stream):
                keys.append(f"{name}/{member}")
                contents.append(content)
                read_bytes += len(content)
                if len(keys) == self._options.chunk_images or read_bytes >= CHUNK_BYTES:
                    yield self._chunk(keys, contents, read_bytes)
                    keys, contents, read_bytes = [], [], 0
        if keys:
            yield self._chunk(keys, contents, read_bytes)

    def _chunk(self, keys: Sequence[str], contents: Sequence[bytes], read_bytes: int) -> Chunk:
        return Chunk(keys, partial(_limited, contents, self._options.max_bytes), read_bytes)

    def _members(self, stream: BinaryIO) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of each image; without `extractfile`, which doubles the time for a small one."""
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # it would remember every member
                if member.isreg() and PurePosixPath(member.name).suffix.lower() in IMAGE_SUFFIXES:
                    stream.seek(member.offset_data)
                    content = stream.read(min(member.size, self._options.max_bytes + 1))
                    if len(content) < min(member.size, self._options.max_bytes + 1):
                        raise tarfile.ReadError("it is truncated")
                    yield member.name, content


def _limited(contents: Sequence[Content | None], max_bytes: int) -> list[Content]:
    return [_within(content, max_bytes) for content in contents]


def _within(content: Content | None, max_bytes: int) -> Content:
    if content is None:
        return UnreadableInputError("the row has no image")
    if isinstance(content, bytes) and len(content) > max_bytes:
        return too_large(max_bytes)
    return content


class _reading:  # noqa: N801  # a context manager
    """Turn errors of a container's format into errors for users."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, (GeneratorExit, ScoringError)) or not isinstance(error, Exception):
            return
        raise ScoringError(
            f"{self._name} can't be read: {printable(str(error) or type(error).__name__)}",
            remedy="restore the file, or move it out of the input and choose a new output folder",
        ) from None


def _parquet_file(stream: BinaryIO) -> Any:
    import pyarrow.parquet as pq

    # Without a buffer, reading a row group would hold the whole column.
    return pq.ParquetFile(stream, buffer_size=CHUNK_BYTES, pre_buffer=False)


def _batch_rows(file: Any, groups: Sequence[int], most: int) -> int:
    """Return the number of rows to read at once: a chunk, fewer if the images are large."""
    counts = [file.metadata.row_group(group) for group in groups]
    row_bytes = sum(count.total_byte_size for count in counts) / max(1, sum(count.num_rows for count in counts))
    return max(1, min(most, int(CHUNK_BYTES / max(1.0, row_bytes))))


def _holds(kind: Any) -> str | None:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        names = [kind.field(position).name for position in range(kind.num_fields)]
        return "bytes" if "bytes" in names and _holds(kind.field("bytes").type) == "bytes" else None
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return "bytes"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "paths"
    return None


def _no_column(name: str, column: str, schema: "pa.Schema") -> ScoringUsageError:
    return ScoringUsageError(
        f"{name} has no column '{printable(column)}'", expected=f"one of {', '.join(schema.names)}"
    )


def _digest(entries: Sequence[Entry], *groups: int) -> str:
    digest = hashlib.sha256(repr(groups).encode())
    for entry in entries:
        digest.update(f"{entry.path!r} {entry.size_bytes} {entry.stamp}\n".encode())
    return digest.hexdigest()[:DIGEST_CHARACTERS]


def part_images_for(total_images: int) -> int:
    """Return the number of images in a part: few enough to spread them, many enough for files of a decent size."""
    images = min(MAX_PART_IMAGES, max(MIN_PART_IMAGES, total_images // PARTS))
    return -(-images // CHUNK_IMAGES) * CHUNK_IMAGES


def chunk_images_for(image_bytes: int) -> int:
    """Return the number of images in a chunk for a model whose input has this size."""
    return min(CHUNK_IMAGES, max(MIN_CHUNK_IMAGES, CHUNK_PIXEL_BYTES // max(1, image_bytes)))
