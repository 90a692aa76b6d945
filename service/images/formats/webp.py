"""WebP (RFC 9649): the picture, or the first frame of an animation, with its transparency."""

from typing import Final

from cifar10_serving.pixels import orientation
from service.images.formats.image_file import ImageFile, damaged, too_many

HEADER_BYTES: Final = 12
PICTURES: Final = frozenset({b"VP8 ", b"VP8L", b"ANMF"})
KEPT: Final = frozenset({b"VP8X", b"ANIM", b"ALPH"})
IS_TRANSPARENT: Final = 0x10
IS_ANIMATED: Final = 0x02
EXTENDED_BYTES: Final = 10
MAX_CHUNKS: Final = 10_000
PIXEL_BYTES: Final = 17
"""Pillow uses libwebp's animation decoder for all files, which holds the canvas twice and returns a copy; a lossless
frame has one of its own."""


def is_webp(content: bytes) -> bool:
    """Return whether a file is a WebP, from its first bytes."""
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP"


def read_webp(content: bytes) -> ImageFile:
    """Return the first image in a WebP.

    Raises:
        UndecodableError: it contains no image.
        TooLargeError: it has more chunks than any program writes.
    """
    chunks: dict[bytes, memoryview] = {}
    view = memoryview(content)
    position = HEADER_BYTES
    for _ in range(MAX_CHUNKS):
        kind = content[position : position + 4]
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        if len(kind) < 4:  # noqa: PLR2004
            break
        end = position + 8 + size
        chunks.setdefault(kind, view[position : min(end, len(content))])
        position = end + (size & 1)
    else:
        raise too_many("WebP", "chunks", MAX_CHUNKS)
    picture = next((kind for kind in chunks if kind in PICTURES), None)
    if picture is None:
        raise damaged("it contains no image")
    parts = _parts(chunks, picture)
    body = b"".join([b"WEBP", *parts])
    essential = b"RIFF" + len(body).to_bytes(4, "little") + body
    width, height = _size(essential)
    return ImageFile(
        "WEBP",
        essential,
        width,
        height,
        decode_bytes=2 * len(essential) + PIXEL_BYTES * width * height,
        orientation=orientation(chunks.get(b"EXIF", b"")[8:], chunks.get(b"XMP ", b"")[8:]),
    )


def _parts(chunks: dict[bytes, memoryview], picture: bytes) -> list[bytes]:
    parts = []
    if b"VP8X" in chunks:
        extended = bytearray(chunks[b"VP8X"])
        if len(extended) < 8 + EXTENDED_BYTES:
            raise damaged("its header is truncated")
        extended[8] &= IS_TRANSPARENT | IS_ANIMATED  # neither profile nor EXIF nor XMP
        if picture != b"ANMF":
            extended[8] &= IS_TRANSPARENT
        parts.append(bytes(extended))
        kept = b"ANIM" if picture == b"ANMF" else b"ALPH"
        if kept in chunks:
            parts.append(_padded(chunks[kept]))
    return [*parts, _padded(chunks[picture])]


def _padded(chunk: memoryview) -> bytes:
    return bytes(chunk) + b"\0" * (len(chunk) & 1)


def _size(content: bytes) -> tuple[int, int]:
    """Return width and height from a file's first chunk."""
    kind, head = content[12:16], content[20:30]
    if kind == b"VP8X":
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
