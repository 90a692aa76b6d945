"""TIFF 6.0 and BigTIFF: the first page, with a directory of the tags that its pixels need.

The file's data stays in place; a new directory after it names only the relevant parts. Others may be as many and as
large as they like, because nothing reads them. https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
"""

import struct
from dataclasses import dataclass
from typing import Final

from cifar10_serving.pixels import UPRIGHT
from service.errors import TooLargeError, UndecodableError
from service.images.formats.image_file import MIB, ImageFile, damaged, too_many
from service.images.formats.jpeg import MAX_SCANS, MAX_SEGMENTS, count_scans

SIGNATURES: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
TYPES: Final = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 13: "L", 16: "Q", 17: "q", 18: "Q"}
"""Format characters of the integer types."""
OTHER_TYPE_BYTES: Final = {2: 1, 5: 8, 7: 1, 10: 8, 11: 4, 12: 8}

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIP_OFFSETS, ORIENTATION = 256, 257, 258, 259, 262, 273, 274
SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 277, 278, 279
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325
SAMPLE_FORMAT, RAW_IMAGES, DNG_VERSION, SUBFILE_TYPE = 339, 330, 50706, 254
PIXEL_TAGS: Final = frozenset({
    WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, 266, STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, 284, 292,
    293, 317, 320, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES, 332, 338, SAMPLE_FORMAT, 347, 529, 530, 531, 532,
})  # fmt: skip
COMPRESSIONS: Final = frozenset({1, 5, 7, 8, 32773, 32946})
"""None, LZW, JPEG, deflate, PackBits. Others are rare; their decoders take as much memory as a file demands, and the
ones for fax log a line for each damaged row."""
JPEG: Final = 7
WHITE_IS_ZERO: Final = 0
FLOAT: Final = 3
REDUCED: Final = 1
PIXEL_BYTES: Final = 8
"""For the largest modes, before and after conversion; while a part is decoded, one of them and the part."""
MAX_TAGS: Final = 4096
MAX_TAG_BYTES: Final = MIB
MAX_STRIPS: Final = 32_768
MAX_BITS: Final = 16


@dataclass(frozen=True, slots=True)
class _Layout:
    """Number format of a file: byte order, and the field sizes of TIFF or BigTIFF."""

    order: str
    count: str
    entry: str
    offset: str
    head_bytes: int

    @property
    def value_bytes(self) -> int:
        return struct.calcsize("=" + self.offset)


def read_tiff(content: bytes) -> ImageFile:
    """Return the first page of a TIFF.

    Raises:
        UndecodableError: the page is damaged, or of an unsupported kind.
        TooLargeError: it has more tags or parts than any program writes.
    """
    order = "<" if content[:2] == b"II" else ">"
    is_big = b"+" in content[2:4]
    layout = _Layout(order, "Q", "HHQ8s", "Q", 16) if is_big else _Layout(order, "H", "HHL4s", "L", 8)
    try:
        tags = _read_directory(content, layout)
        return _first_page(content, layout, tags)
    except (struct.error, IndexError, KeyError, OverflowError):  # OverflowError: an offset beyond any file
        raise damaged("its directory is truncated or lacks a tag") from None


def _read_directory(content: bytes, layout: _Layout) -> dict[int, tuple[int, int, bytes]]:
    """Return type, count and value (or its offset) of each tag of the first page."""
    (start,) = struct.unpack_from(layout.order + layout.offset, content, layout.head_bytes - layout.value_bytes)
    (count,) = struct.unpack_from(layout.order + layout.count, content, start)
    if count > MAX_TAGS:
        raise too_many("TIFF", "tags", MAX_TAGS)
    start += struct.calcsize("=" + layout.count)
    entry = struct.Struct(layout.order + layout.entry)
    tags: dict[int, tuple[int, int, bytes]] = {}
    for place in range(start, start + count * entry.size, entry.size):
        tag, kind, values, value = entry.unpack_from(content, place)
        tags.setdefault(tag, (kind, values, value))
    return tags


def _values(content: bytes, layout: _Layout, entry: tuple[int, int, bytes]) -> tuple[int, ...]:
    kind, values, value = entry
    if kind not in TYPES:
        raise damaged(f"a tag has numbers of type {kind}")
    if values == 0:
        raise damaged("a tag has no numbers")
    if values > MAX_STRIPS * 4:
        raise too_many("TIFF", "strips", MAX_STRIPS)
    form = f"{layout.order}{values}{TYPES[kind]}"
    if struct.calcsize(form) <= len(value):
        return struct.unpack_from(form, value)
    return struct.unpack_from(form, content, struct.unpack(layout.order + layout.offset, value)[0])


def _first_page(content: bytes, layout: _Layout, tags: dict[int, tuple[int, int, bytes]]) -> ImageFile:
    def number(tag: int, default: int | None = None) -> int:
        if tag not in tags and default is not None:
            return default
        return _values(content, layout, tags[tag])[0]

    _check_kind(tags, number(SUBFILE_TYPE, 0), number(COMPRESSION, 1), number(SAMPLE_FORMAT, 1))
    width, height, samples = number(WIDTH), number(HEIGHT), number(SAMPLES, 1)
    bits = max(_values(content, layout, tags[BITS])) if BITS in tags else 1
    if bits > MAX_BITS:
        raise _not_read(f"samples of {bits} bits", "of 1 to 16 bits")
    offsets, sizes = (TILE_OFFSETS, TILE_BYTES) if TILE_OFFSETS in tags else (STRIP_OFFSETS, STRIP_BYTES)
    places = _values(content, layout, tags[offsets])
    lengths = _values(content, layout, tags[sizes]) if sizes in tags else (len(content),)
    if len(places) > MAX_STRIPS:
        raise too_many("TIFF", "strips", MAX_STRIPS)
    if sum(lengths) > 2 * len(content):
        raise damaged("its strips overlap")
    if number(COMPRESSION, 1) == JPEG:
        _check_scans(content, places, lengths)
    part_width, part_height = (
        (number(TILE_WIDTH), number(TILE_HEIGHT))
        if offsets == TILE_OFFSETS
        else (width, min(height, number(ROWS_PER_STRIP, height)))
    )
    essential = _with_directory(content, layout, {tag: entry for tag, entry in tags.items() if tag in PIXEL_TAGS})
    sample_bytes = samples * -(-bits // 8)
    return ImageFile(
        "TIFF",
        essential,
        width,
        height,
        decode_bytes=len(essential)
        + max(width * height * PIXEL_BYTES, width * height * 4 + part_width * part_height * sample_bytes),
        orientation=number(ORIENTATION, UPRIGHT),
        grey_bits=max(8, bits),
        is_inverted=number(PHOTOMETRIC, 1) == WHITE_IS_ZERO,
    )


def _check_kind(tags: dict[int, tuple[int, int, bytes]], subfile: int, compression: int, sample_format: int) -> None:
    if DNG_VERSION in tags or (subfile & REDUCED and RAW_IMAGES in tags):
        raise UndecodableError(
            "the file is a camera's raw photo (DNG, NEF, ARW or similar)",
            expected="a developed picture, such as a JPEG",
            remedy="export it as a JPEG or PNG",
        )
    if compression not in COMPRESSIONS:
        raise _not_read(f"compression {compression}", "none, LZW, deflate, PackBits or JPEG")
    if sample_format == FLOAT:
        raise _not_read("floating-point samples", "integer samples of 1 to 16 bits")


def _not_read(kind: str, expected: str) -> UndecodableError:
    return UndecodableError(
        f"a TIFF with {kind} is not supported",
        expected=expected,
        remedy="save it in one of these forms, or as a PNG or JPEG",
    )


def _check_scans(content: bytes, places: tuple[int, ...], lengths: tuple[int, ...]) -> None:
    most = MAX_SEGMENTS + 16 * len(places)
    for place, length in zip(places, lengths, strict=False):
        part = content[place : place + length]
        if part.count(b"\xff\xda") <= MAX_SCANS:
            continue
        scans = count_scans(part, max_segments=most)
        if scans is None or scans > MAX_SCANS:
            raise TooLargeError(
                f"a part of the TIFF has more than {MAX_SCANS} JPEG scans",
                expected=f"at most {MAX_SCANS}",
                remedy="save it as a PNG or JPEG",
            )


def _with_directory(content: bytes, layout: _Layout, tags: dict[int, tuple[int, int, bytes]]) -> bytes:
    for kind, values, _ in tags.values():
        size = values * (struct.calcsize("=" + TYPES[kind]) if kind in TYPES else OTHER_TYPE_BYTES.get(kind, 8))
        if size > MAX_TAG_BYTES:
            raise TooLargeError(
                f"a tag of the TIFF has {size:,} bytes",
                expected=f"at most {MAX_TAG_BYTES:,}",
                remedy="save it as a PNG or JPEG",
            )
    padding = bytes(-len(content) % 8)
    place = len(content) + len(padding)
    entries = [struct.pack(layout.order + layout.entry, tag, *entry) for tag, entry in sorted(tags.items())]
    return b"".join([
        content[: layout.head_bytes - layout.value_bytes],
        struct.pack(layout.order + layout.offset, place),
        memoryview(content)[layout.head_bytes :],
        padding,
        struct.pack(layout.order + layout.count, len(tags)),
        *entries,
        bytes(layout.value_bytes),
    ])  # fmt: skip
