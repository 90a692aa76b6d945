"""The orientation of a picture, from its EXIF or XMP block.

Pillow can read it, but together with every other tag: a tag may claim the whole block as its value, so that 64 KB of
EXIF with 5,000 tags become 300 MB, and a damaged tag hides the orientation. This module reads one tag and copies
nothing.
"""

import re
import struct
from typing import Final

from service.images.formats.image_file import UPRIGHT

EXIF_HEADER: Final = b"Exif\0\0"
ORIENTATION_TAG: Final = 0x0112
BYTE_ORDERS: Final = {b"II*\0": "<", b"MM\0*": ">", b"II\0*": "<", b"MM*\0": ">"}
"""Keyed by a block's first bytes. The last two are wrong, but some programs write them; all others are damaged."""
WHOLE_NUMBERS: Final = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}
"""TIFF's types of a single integer. https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, section 2"""
IFD_OFFSET: Final = 4
TIFF_HEADER_BYTES: Final = 8
IN_XMP: Final = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


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
