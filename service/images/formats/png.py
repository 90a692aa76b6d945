"""PNG (https://www.w3.org/TR/png-3/): header, palette, transparency and pixels, as a file without anything else.

Damaged ancillary chunks are ignored, as in browsers; the pixels are complete without them. The first picture of an
animation is the one in the IDAT chunks.
"""

import zlib
from dataclasses import dataclass, field
from typing import Final

from cifar10_serving.pixels import UPRIGHT, exif_orientation, orientation
from service.images.formats.image_file import MIB, ImageFile, damaged, too_many

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
HEADER_BYTES: Final = 13
MAX_CHUNKS: Final = 50_000
"""20 MB of pixels have 2,500 chunks of 8 KiB, the usual size."""
MAX_TEXT_BYTES: Final = MIB
"""Limit of a decompressed text with the orientation; a longer one is ignored."""
RAW_EXIF: Final = b"Raw profile type exif"
"""The key under which ImageMagick writes EXIF as hexadecimal digits, from the fourth line on."""
XMP: Final = b"XML:com.adobe.xmp"
PIXEL_BYTES: Final = {0: 3, 2: 4, 3: 5, 4: 8, 6: 8}
"""Bytes per pixel in Pillow, with conversions, by colour type: grey, RGB, palette, grey and RGB with alpha."""
KEYED_PIXEL_BYTES: Final = 9
"""Bytes per pixel with a transparent colour."""
TEXTS: Final = frozenset({b"tEXt", b"zTXt", b"iTXt"})
CRITICAL: Final = frozenset({b"IHDR", b"PLTE", b"IDAT"})
KEPT: Final = frozenset({b"tRNS", b"eXIf"})


@dataclass(slots=True)
class _Chunks:
    """The relevant chunks; except for IDAT, the last one of each type."""

    kept: dict[bytes, memoryview] = field(default_factory=dict)
    texts: dict[bytes, tuple[bytes, memoryview]] = field(default_factory=dict)
    data: list[memoryview] = field(default_factory=list)


def read_png(content: bytes) -> ImageFile:
    """Return the image in a PNG.

    Raises:
        UndecodableError: a chunk that the pixels need is missing or damaged.
        TooLargeError: it has more chunks than any program writes.
    """
    chunks = _read_chunks(content)
    header = chunks.kept.get(b"IHDR", memoryview(b""))
    if len(header) < HEADER_BYTES:
        raise damaged("it has no header")
    if not chunks.data:
        raise damaged("it has no pixels")
    parts = [SIGNATURE, _chunk(b"IHDR", header)]
    parts += [_chunk(kind, chunks.kept[kind]) for kind in (b"PLTE", b"tRNS") if kind in chunks.kept]
    parts += [_chunk(b"IDAT", b"".join(chunks.data)), _chunk(b"IEND", b"")]
    essential = b"".join(parts)
    width, height = int.from_bytes(header[:4]), int.from_bytes(header[4:8])
    pixel_bytes = KEYED_PIXEL_BYTES if b"tRNS" in chunks.kept else PIXEL_BYTES.get(header[9], KEYED_PIXEL_BYTES)
    return ImageFile(
        "PNG",
        essential,
        width,
        height,
        decode_bytes=2 * len(essential) + width * height * pixel_bytes,
        orientation=_orientation(chunks),
    )


def _read_chunks(content: bytes) -> _Chunks:
    found, view = _Chunks(), memoryview(content)
    start = len(SIGNATURE)
    previous = b""
    for _ in range(MAX_CHUNKS):
        kind = content[start + 4 : start + 8]
        end = start + 8 + int.from_bytes(content[start : start + 4])
        if len(kind) < 4 or kind == b"IEND":  # noqa: PLR2004  # what is missing at the end may not be missed
            return found
        payload = view[start + 8 : end]
        if kind in CRITICAL:
            # Browsers show no picture if this checksum is wrong; a file truncated after its pixels has none.
            if end + 4 <= len(content) and not _is_whole(view, start, end):
                raise damaged(f"the checksum of its chunk {kind.decode()} is wrong")
            if kind != b"IDAT":
                if not found.data:
                    found.kept[kind] = payload
            elif previous == b"IDAT" or not found.data:
                found.data.append(payload)
        elif kind in KEPT and _is_whole(view, start, end):
            found.kept[kind] = payload
        elif kind in TEXTS:
            key = content[start + 8 : start + 8 + 80].partition(b"\0")[0]
            if key in {RAW_EXIF, XMP}:
                found.texts[key] = kind, payload[len(key) + 1 :]
        previous, start = kind, end + 4
    raise too_many("PNG", "chunks", MAX_CHUNKS)


def _is_whole(view: memoryview, start: int, end: int) -> bool:
    return int.from_bytes(view[end : end + 4]) == zlib.crc32(view[start + 4 : end])


def _chunk(kind: bytes, payload: bytes | memoryview) -> bytes:
    return b"".join([len(payload).to_bytes(4), kind, payload, zlib.crc32(payload, zlib.crc32(kind)).to_bytes(4)])


def _orientation(chunks: _Chunks) -> int:
    exif: bytes | memoryview = chunks.kept.get(b"eXIf", b"")
    if not exif and not chunks.texts:
        return UPRIGHT
    if not exif and RAW_EXIF in chunks.texts:
        lines = _text(*chunks.texts[RAW_EXIF]).split(b"\n")[3:]
        try:
            exif = bytes.fromhex(b"".join(lines).decode("ascii"))
        except ValueError:
            exif = b""
    if XMP in chunks.texts and exif_orientation(exif) is None:
        return orientation(xmp=_text(*chunks.texts[XMP]))
    return orientation(exif)


def _text(kind: bytes, payload: memoryview) -> bytes:
    """Return the text after its key; nothing if it is damaged or too long."""
    compressed = kind == b"zTXt"
    if kind == b"iTXt":  # two flags, a language, the key in that language
        compressed = bytes(payload[:1]) == b"\1"
        parts = bytes(payload[2 : 2 + MAX_TEXT_BYTES]).split(b"\0", 2)
        text = parts[2] if len(parts) > 2 else b""  # noqa: PLR2004
    else:
        text = bytes(payload[compressed : compressed + MAX_TEXT_BYTES])
    if not compressed:
        return text
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(text, MAX_TEXT_BYTES)
    except zlib.error:
        return b""
    return b"" if stream.unconsumed_tail else text
