"""The structure of an image file, read completely without decoding anything.

Decoders may take seconds or gigabytes for the metadata of a small file: Pillow joins EXIF segments quadratically, keeps
each PNG chunk, decompresses texts, and steps through each block of a GIF in Python. So the module of each format reads
the structure once, in linear time and with limits, and returns a file with nothing but the first frame's pixels.

The orientation comes from the picture's EXIF or XMP block. Pillow can read it, but together with every other tag: a tag
may claim the whole block as its value, so that 64 KB of EXIF with 5,000 tags become 300 MB, and a damaged tag hides the
orientation. This module reads one tag and copies nothing.
"""

import re
import struct
from dataclasses import dataclass
from typing import Final

from service.errors import TooLargeError, UndecodableError

READABLE_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "HEIC", "AVIF")
"""Common names of the formats."""
UPRIGHT: Final = 1
"""The EXIF orientation of an upright image."""
MIB: Final = 2**20

EXIF_HEADER: Final = b"Exif\0\0"
ORIENTATION_TAG: Final = 0x0112
BYTE_ORDERS: Final = {b"II*\0": "<", b"MM\0*": ">", b"II\0*": "<", b"MM*\0": ">"}
"""Keyed by a block's first bytes. The last two are wrong, but some programs write them; all others are damaged."""
WHOLE_NUMBERS: Final = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}
"""TIFF's types of a single integer. https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, section 2"""
IFD_OFFSET: Final = 4
TIFF_HEADER_BYTES: Final = 8
IN_XMP: Final = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image file.

    Args:
        format: its name in Pillow.
        content: a file of this format with the first frame's pixels and no metadata.
        width, height: size in pixels, before rotation.
        decode_bytes: maximum memory that a decoder uses for it, including the decoded image.
        orientation: EXIF's number, 1 to 8; anything else means upright.
        endings: possible continuations of a file without an end; its pixels are complete if they are equal with each.
        grey_bits: bits per pixel of grey images with more than 8.
        is_inverted: whether the largest value of such grey is black; others are inverted by the decoder.
    """

    format: str
    content: bytes
    width: int
    height: int
    decode_bytes: int
    orientation: int = UPRIGHT
    endings: tuple[bytes, ...] = (b"",)
    grey_bits: int = 16
    is_inverted: bool = False

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def damaged(problem: str) -> UndecodableError:
    """Return the error for a file that can't be decoded."""
    return UndecodableError(
        f"the image can't be decoded: {problem}",
        expected=f"a complete file in one of the formats {', '.join(READABLE_FORMATS)}",
        remedy="the file is truncated or damaged: open it and save it again",
    )


def too_many(kind: str, parts: str, most: int) -> TooLargeError:
    """Return the error for a file with more parts than any program writes; each part takes time."""
    return TooLargeError(
        f"the {kind} has more than {most:,} {parts}",
        expected=f"at most {most:,}",
        remedy="open it and save it again, as a JPEG or PNG",
    )


def orientation(exif: bytes | memoryview = b"", xmp: bytes | memoryview = b"") -> int:
    """Return the orientation, 1 to 8, in these blocks; EXIF's takes precedence, and without any it is 1."""
    of_exif = exif_orientation(exif)
    if of_exif is not None:
        return of_exif
    match = IN_XMP.search(xmp)
    return int(match[1]) if match else UPRIGHT


def exif_orientation(block: bytes | memoryview) -> int | None:
    """Return the orientation in an EXIF block, with or without its header, or None."""
    while starts_with(block, EXIF_HEADER):
        block = block[len(EXIF_HEADER) :]
    order = BYTE_ORDERS.get(bytes(block[:4]))
    if order is None or len(block) < TIFF_HEADER_BYTES:
        return None
    (start,) = struct.unpack_from(order + "L", block, IFD_OFFSET)
    if start + 2 > len(block):
        return None
    (count,) = struct.unpack_from(order + "H", block, start)
    entries = block[start + 2 : start + 2 + 12 * count]
    found = None
    for tag, kind, values, value in struct.iter_unpack(order + "HHL4s", entries[: len(entries) // 12 * 12]):
        if tag == ORIENTATION_TAG and values == 1 and kind in WHOLE_NUMBERS:
            (found,) = struct.unpack_from(order + WHOLE_NUMBERS[kind], value)
    return found


def starts_with(block: bytes | memoryview, prefix: bytes) -> bool:
    """Return whether a block starts with these bytes."""
    return bytes(block[: len(prefix)]) == prefix
