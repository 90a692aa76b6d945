"""Fast path of decoding: files that are 32x32 RGB already, as CIFAR-10's are, without most of Pillow's Python.

Hands the compressed data straight to the decoders: a PNG's to Pillow's, a JPEG to simplejpeg, which like Pillow wraps
libjpeg-turbo and makes the same pixels, in a third of the time (`python -m scripts.compare_libraries jpeg`). Every
other file, and one that is cut off or damaged, is left to `service.images.encoded`.
"""

import re
from typing import Final
from zlib import crc32

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from cifar10_serving.artifacts.labels import IMAGE_SHAPE

SIZE: Final = (IMAGE_SHAPE[1], IMAGE_SHAPE[0])
MAX_BYTES: Final = 16 * 2**10
"""A file of so few pixels has 3 kB. A long one would hold up the event loop, on which it is decoded."""

PNG_HEADER: Final = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x20\x00\x00\x00\x20\x08\x02\x00\x00\x00"
"""32x32 pixels, 8 bits, RGB, not interlaced. https://www.w3.org/TR/png-3/#11IHDR"""
PNG_FIRST_CHUNK: Final = 8
IGNORABLE_PNG_CHUNKS: Final = frozenset({b"IHDR", b"sRGB", b"gAMA", b"cHRM", b"iCCP", b"pHYs", b"tIME", b"sBIT"})
"""Pillow applies none of them to the pixels. Others might: transparency, orientation (in text, too), animation."""

JPEG_HEADER: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
"""JFIF: three components are YCbCr. https://www.w3.org/Graphics/JPEG/jfif3.pdf"""
JPEG_FRAME: Final = b"\xff\xc0\x00\x11\x08\x00\x20\x00\x20\x03"
"""Baseline, 8 bits, 32x32 pixels, three components. https://www.w3.org/Graphics/JPEG/itu-t81.pdf, B.2.2"""
JPEG_SCAN: Final = b"\xff\xda\x00\x0c\x03"
JPEG_END: Final = b"\xff\xd9"
JPEG_MARKERS: Final = re.compile(rb"\xff[\xc0\xda\xe1\xe2\xee]")
"""Frame and scan; and those that have a say: EXIF and XMP, several pictures in a file, Adobe's own colours."""
PLAIN_JPEG_MARKERS: Final = [JPEG_FRAME[:2], JPEG_SCAN[:2]]


def decode_unchanged(content: bytes) -> NDArray[np.uint8] | None:
    """Return the pixels (32, 32, 3) uint8 RGB 0..255 of a file that holds just these; None for any other file."""
    if len(content) > MAX_BYTES:
        return None
    try:
        if content.startswith(PNG_HEADER):
            return _decode_png(content)
        return _decode_jpeg(content) if content.startswith(JPEG_HEADER) else None
    except Exception:  # noqa: BLE001  # decoders raise whatever they meet; `encoded` says what is damaged
        return None


def _decode_png(content: bytes) -> NDArray[np.uint8] | None:
    compressed = _png_data(content)
    if not compressed:
        return None
    image = Image.frombytes("RGB", SIZE, compressed, "zip", "RGB")
    return np.frombuffer(image.tobytes(), np.uint8).reshape(IMAGE_SHAPE)


def _decode_jpeg(content: bytes) -> NDArray[np.uint8] | None:
    # Strict: of a damaged scan, libjpeg would make pixels with no more than a warning.
    return np.asarray(simplejpeg.decode_jpeg(content, strict=True)) if _is_plain_jpeg(content) else None


def _png_data(content: bytes) -> bytes | None:
    """Return the compressed pixels of a PNG; None if it has a chunk that may change them, or a damaged one."""
    data = []
    start = PNG_FIRST_CHUNK
    while True:
        end = start + 8 + int.from_bytes(content[start : start + 4])
        chunk = content[start + 4 : end]
        kind = chunk[:4]
        if int.from_bytes(content[end : end + 4]) != crc32(chunk):
            return None
        if kind == b"IDAT":
            data.append(chunk[4:])
        elif kind == b"IEND":
            return b"".join(data)
        elif kind not in IGNORABLE_PNG_CHUNKS:
            return None
        start = end + 4


def _is_plain_jpeg(content: bytes) -> bool:
    return (
        JPEG_FRAME in content
        and JPEG_SCAN in content
        and content.endswith(JPEG_END)
        and JPEG_MARKERS.findall(content) == PLAIN_JPEG_MARKERS
    )
