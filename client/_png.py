"""Writes pixels as PNG (RFC 2083), so that an array can be sent without an image library."""

import struct
import zlib
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
RGB_8_BITS: Final = b"\x08\x02\x00\x00\x00"
"""Bits of a sample, colour type, and the only methods of compression, filter and interlace that matter."""
NO_FILTER: Final = b"\x00"
FAST: Final = 1


def encode_png(pixels: bytes, *, height: int, width: int) -> bytes:
    """A PNG file of (height, width, 3) uint8 RGB pixels, given row by row."""
    row_bytes = 3 * width
    rows = b"".join(NO_FILTER + pixels[row * row_bytes : (row + 1) * row_bytes] for row in range(height))
    return b"".join(
        (
            SIGNATURE,
            _chunk(b"IHDR", struct.pack(">II", width, height) + RGB_8_BITS),
            _chunk(b"IDAT", zlib.compress(rows, FAST)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
