"""BMP: read without changes, because it has no metadata.

https://learn.microsoft.com/windows/win32/gdi/bitmap-storage
"""

import struct
from typing import Final

from service.errors import TooLargeError
from service.images.formats.image_file import ImageFile, damaged

SIGNATURE: Final = b"BM"
OLD_HEADER_BYTES: Final = 12
HEADER_END: Final = 34
PIXEL_BYTES: Final = 8
RUN_LENGTH_CODED: Final = (1, 2)
MAX_RUN_LENGTH_BYTES: Final = 512 * 1024
MAX_RUN_LENGTH_PIXELS: Final = 2_000_000
"""Limit for run-length encoded images, which Pillow decodes in Python, holding the GIL."""


def read_bmp(content: bytes) -> ImageFile:
    """Return the image in a BMP.

    Raises:
        UndecodableError: its header is truncated.
        TooLargeError: it is run-length encoded and large.
    """
    if len(content) < HEADER_END:
        raise damaged("its header is truncated")
    if int.from_bytes(content[14:18], "little") == OLD_HEADER_BYTES:
        width, height = struct.unpack_from("<HH", content, 18)
        compression = 0
    else:
        width, height, _, _, compression = struct.unpack_from("<LlHHL", content, 18)
    height = abs(height)
    pixels = width * height
    if compression in RUN_LENGTH_CODED and (
        pixels > MAX_RUN_LENGTH_PIXELS or len(content) > MAX_RUN_LENGTH_BYTES + 2048
    ):
        raise TooLargeError(
            f"the BMP is run-length encoded and has {len(content):,} bytes for {pixels:,} pixels",
            expected=f"at most {MAX_RUN_LENGTH_BYTES:,} bytes for {MAX_RUN_LENGTH_PIXELS:,} pixels",
            remedy="save it as a PNG",
        )
    return ImageFile("BMP", content, width, height, decode_bytes=len(content) + pixels * PIXEL_BYTES)
