"""Items that make up a HEIC or AVIF picture: tiles in a grid, and overlaid layers (ISO/IEC 23008-12, 6.6).

A decoder decodes an item each time it is referenced, even if little of it is visible.
"""

import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import Final

from service.errors import UndecodableError
from service.images.formats.av1 import frame_sizes
from service.images.formats.image_file import ImageFile, damaged, too_many

MAX_DEPTH: Final = 8
"""Limit of nested pictures; a phone's have two levels."""
NARROW, WIDE = "H", "L"
SPATIAL_EXTENT: Final = b"ispe"

Box = tuple[bytes, bytes]
"""Type and payload."""
HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
MAX_BOXES: Final = 1000
MAX_META_BYTES: Final = 256 * 1024
"""Limit of the metadata; a phone's tiled 50-megapixel photo has 10 KB."""
BOX_HEADER_BYTES: Final = 8
LARGE_BOX_HEADER_BYTES: Final = 16
META_HEADER_BYTES: Final = 12
SIZE_OF_IMAGE: Final = re.compile(rb"ispe\0\0\0\0(.{4})(.{4})", re.DOTALL)
SIZE_OF_TRACK: Final = re.compile(rb"(?:av01|hvc1|hev1)\0{6}.{18}(.{2})(.{2})", re.DOTALL)
PIXEL_BYTES: Final = {("HEIF", False): 10, ("HEIF", True): 16, ("AVIF", False): 13, ("AVIF", True): 20}
"""Measured without subsampling and with transparency; the flag means more than 8 bits per channel."""
METADATA_ITEM: Final = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))(?:Exif|mime)", re.DOTALL)
NO_ITEM: Final = rb"\1none"
"""An unknown type, which decoders ignore."""
FIRST_CHUNK: Final = re.compile(rb"stco\0{4}.{4}(.{4})|co64\0{4}.{4}(.{8})", re.DOTALL)
FIRST_SAMPLE: Final = re.compile(rb"stsz\0{4}(.{4}).{4}(.{4})", re.DOTALL)
WITHIN_IDAT: Final = 1
FRAME_BYTES: Final = {False: 3, True: 6}
"""Bytes per pixel of an AV1 frame that the decoder keeps in addition to the picture and its transparency."""
MAX_KEPT_FRAMES: Final = 9
"""Eight reference frames and the current one."""
MAX_FRAMES: Final = 16
"""Limit of full-size frames; a picture with transparency, thumbnail and layers has a few."""
MAX_PARTS: Final = 8
"""A picture slightly larger than a tile consists of four tiles, and so does its transparency."""
MAX_EXTENTS: Final = 10_000
HEVC_DEPTH: Final = re.compile(rb"hvcC.{17}(.)", re.DOTALL)
AV1_DEPTH: Final = re.compile(rb"av1C..(.)", re.DOTALL)
HEVC_MORE_BITS: Final = 0x07
AV1_MORE_BITS: Final = 0x40


def decoded_pixels(properties: list[Box], associations: bytes, references: list[Box], *, wide: bool) -> int:
    """Return the maximum number of pixels that are decoded for one picture, from the sizes of its parts.

    Args:
        properties: the boxes in `ipco`.
        associations: the payload of `ipma`.
        references: the boxes in `iref`.
        wide: whether item numbers in the references have 32 bits.

    Raises:
        UndecodableError: a box is truncated, or a picture is composed of itself.
    """
    try:
        areas = _areas(properties, associations)
        parts: dict[int, list[int]] = {}
        for kind, payload in references:
            if kind == b"dimg":
                whole, *its_parts = _numbers(payload, WIDE if wide else NARROW)
                parts.setdefault(whole, []).extend(its_parts)
    except struct.error:
        raise damaged("the description of its items is truncated") from None
    costs: dict[int, int] = {}

    def cost(item: int, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise damaged("an image in it is composed of itself")
        if item not in costs:
            costs[item] = max(areas.get(item, 0), sum(cost(part, depth + 1) for part in parts.get(item, ())))
        return costs[item]

    return max((cost(item, 0) for item in parts), default=0)


def _numbers(payload: bytes, form: str) -> Iterator[int]:
    (whole,) = struct.unpack_from(f">{form}", payload)
    (count,) = struct.unpack_from(">H", payload, struct.calcsize(form))
    yield whole
    yield from struct.unpack_from(f">{count}{form}", payload, struct.calcsize(f">{form}H"))


def _areas(properties: list[Box], associations: bytes) -> dict[int, int]:
    """Return the largest area that each item's properties declare."""
    version, flags = associations[:1] > b"\0", associations[3:4]
    number, index = (WIDE if version else NARROW), ("H" if flags and flags[0] & 1 else "B")
    mask = 0x7FFF if index == "H" else 0x7F
    entry = struct.Struct(f">{number}B")
    position = 8
    areas: dict[int, int] = {}
    for _ in range(int.from_bytes(associations[4:8])):
        item, count = entry.unpack_from(associations, position)
        position += entry.size
        for value in struct.unpack_from(f">{count}{index}", associations, position):
            place = (value & mask) - 1
            if 0 <= place < len(properties) and properties[place][0] == SPATIAL_EXTENT:
                width, height = struct.unpack_from(">LL", properties[place][1], 4)
                areas[item] = max(areas.get(item, 0), width * height)
        position += count * struct.calcsize(index)
    return areas


def brands(content: bytes) -> frozenset[bytes]:
    """Return the brands that a file declares; none if it is not such a file."""
    if content[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(content[:4]), 1024)
    return frozenset({content[8:12], *(content[place : place + 4] for place in range(16, end - 3, 4))})


def heif_format(content: bytes) -> str | None:
    """Return HEIF or AVIF, Pillow's names; None for other files in such boxes, mainly videos."""
    found = brands(content)
    if found & AVIF_BRANDS:
        return "AVIF"
    return "HEIF" if found & HEIC_BRANDS else None


def read_heif(content: bytes, kind: str) -> ImageFile:
    """Return the image in a HEIC or AVIF file; its size is that of the largest image in the file.

    Raises:
        UndecodableError: it contains no image.
        TooLargeError: it has more parts than any program writes.
    """
    name = "HEIC" if kind == "HEIF" else kind
    described = b"".join(payload for _, payload in _descriptions(content))
    if len(described) > MAX_META_BYTES:
        raise too_many(name, "bytes of metadata", MAX_META_BYTES)
    sizes = [
        (int.from_bytes(match[1]), int.from_bytes(match[2]))
        for of_film, payload in _descriptions(content)
        for pattern in (SIZE_OF_IMAGE, *((SIZE_OF_TRACK,) if of_film else ()))
        for match in pattern.finditer(payload)
    ]
    if not sizes:
        raise damaged("it contains no image")
    frames = list(_av1_frames(content, described)) if kind == "AVIF" else []
    width, height = max([*sizes, *frames], key=lambda size: size[0] * size[1])
    depth, more_bits = (HEVC_DEPTH, HEVC_MORE_BITS) if kind == "HEIF" else (AV1_DEPTH, AV1_MORE_BITS)
    is_deep = any(match[1][0] & more_bits for match in depth.finditer(described))
    if _pixels_in_parts(content) > MAX_PARTS * width * height:
        raise too_many(name, "pixels of tiles for each pixel of the picture", MAX_PARTS)
    decode_bytes = 3 * len(content) + PIXEL_BYTES[kind, is_deep] * width * height
    coded_pixels = sum(size[0] * size[1] for size in frames)
    if coded_pixels > MAX_FRAMES * width * height:
        raise too_many(name, "frames for one picture", MAX_FRAMES)
    kept_pixels = min(coded_pixels, MAX_KEPT_FRAMES * width * height)
    decode_bytes += FRAME_BYTES[is_deep] * max(0, kept_pixels - 2 * width * height)
    return ImageFile(kind, _without_metadata(content), width, height, decode_bytes)


def _av1_frames(content: bytes, described: bytes) -> Iterator[tuple[int, int]]:
    """Yield the largest possible size of each frame that may be decoded for the picture, according to the frames."""
    left = 2 * len(content)
    for stream in chain(_items(content), _first_samples(content, described)):
        left -= len(stream)
        if left < 0:
            raise _overlapping()
        yield from frame_sizes(stream)


def _first_samples(content: bytes, described: bytes) -> Iterator[bytes]:
    """Yield the first frame of each track of a video."""
    sizes = [int.from_bytes(match[1]) or int.from_bytes(match[2]) for match in FIRST_SAMPLE.finditer(described)]
    for match in FIRST_CHUNK.finditer(described):
        start = int.from_bytes(match[1] or match[2])
        yield content[start : start + max(sizes, default=0)]


def _items(content: bytes) -> Iterator[bytes]:
    """Yield the data of each item that the file's metadata locates."""
    for boxes in _metas(content):
        for places in boxes[b"iloc"]:
            try:
                yield from _located(content, b"".join(boxes[b"idat"][:1]), places)
            except struct.error:
                raise damaged("the locations of its items are truncated") from None


def _pixels_in_parts(content: bytes) -> int:
    """Return the number of pixels that are decoded for a composed picture."""
    pixels = 0
    for boxes in _metas(content):
        for references in boxes[b"iref"]:
            parts = _payloads(references, 4)
            for properties in boxes[b"iprp"]:
                inner = _payloads(properties, 0)
                described = [box for kind, payload in inner if kind == b"ipco" for box in _payloads(payload, 0)]
                for associations in (payload for kind, payload in inner if kind == b"ipma"):
                    pixels += decoded_pixels(described, associations, parts, wide=references[:1] > b"\0")
    return pixels


def _metas(content: bytes) -> Iterator[dict[bytes, list[bytes]]]:
    """Yield the boxes of each metadata block: payloads by type."""
    for kind, start, end in _boxes(content, 0, len(content)):
        if kind == b"meta":
            found = defaultdict(list)
            for name, first, last in _boxes(content, start + META_HEADER_BYTES - BOX_HEADER_BYTES, end):
                found[name].append(content[first:last])
            yield found


def _payloads(content: bytes, start: int) -> list[tuple[bytes, bytes]]:
    return [(kind, content[first:last]) for kind, first, last in _boxes(content, start, len(content))]


def _overlapping() -> UndecodableError:
    return damaged("its items overlap")


def _located(content: bytes, idat: bytes, places: bytes) -> Iterator[bytes]:
    """Yield the data that an `iloc` box locates (ISO/IEC 14496-12, 8.11.3)."""
    version = places[0] if places else 0
    position = 4

    def take(count: int) -> int:
        nonlocal position
        if position + count > len(places):
            raise struct.error
        position += count
        return int.from_bytes(places[position - count : position])

    lengths = take(2)
    offset_bytes, length_bytes, base_bytes = lengths >> 12, lengths >> 8 & 15, lengths >> 4 & 15
    index_bytes = lengths & 15 if version else 0
    number_bytes = 4 if version > 1 else 2
    extents = 0
    for _ in range(take(number_bytes)):
        take(number_bytes)
        source = idat if version and take(2) & 15 == WITHIN_IDAT else content
        take(2)
        base = take(base_bytes)
        parts, size = [], 0
        count = take(2)
        extents += count
        if extents > MAX_EXTENTS:
            raise too_many("AVIF", "parts of items", MAX_EXTENTS)
        for _ in range(count):
            take(index_bytes)
            start, length = base + take(offset_bytes), take(length_bytes)
            part = memoryview(source)[start : start + (length or len(source))]
            size += len(part)
            if size > 2 * len(content):
                raise _overlapping()
            parts.append(part)
        yield b"".join(parts)


def _without_metadata(content: bytes) -> bytes:
    """Return the file with its EXIF and XMP hidden; Pillow would read all of them, and fail if one is damaged."""
    for kind, start, end in _boxes(content, 0, len(content)):
        if kind == b"meta":
            return b"".join([content[:start], METADATA_ITEM.sub(NO_ITEM, content[start:end]), content[end:]])
    return content


def _descriptions(content: bytes) -> Iterator[tuple[bool, memoryview]]:
    """Yield the boxes that describe videos and pictures, without the data that may be inside them."""
    view = memoryview(content)
    for kind, start, end in _boxes(content, 0, len(content)):
        if kind == b"moov":
            yield True, view[start:end]
        elif kind == b"meta":
            for inner, inner_start, inner_end in _boxes(content, start + META_HEADER_BYTES - BOX_HEADER_BYTES, end):
                if inner != b"idat":
                    yield False, view[inner_start:inner_end]


def _boxes(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type, the start of the payload and the end of each box."""
    for _ in range(MAX_BOXES):
        size, kind = int.from_bytes(content[start : start + 4]), content[start + 4 : start + 8]
        header = BOX_HEADER_BYTES
        if size == 1:
            size = int.from_bytes(content[start + 8 : start + 16])
            header = LARGE_BOX_HEADER_BYTES
        elif size == 0:
            size = end - start
        if start >= end:
            return
        if size < header:
            raise damaged("a box of it has no size")
        yield kind, start + header, min(end, start + size)
        start += size
    raise too_many("file", "boxes", MAX_BOXES)
