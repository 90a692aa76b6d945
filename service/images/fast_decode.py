"""Fast path of decoding: RGB files that already have a version's own size, without most of Pillow's Python code.

The compressed data goes straight to the decoders: a PNG's to Pillow's, a JPEG's to simplejpeg, which like Pillow wraps
libjpeg-turbo and makes the same pixels in a third of the time (`python -m scripts.compare_libraries jpeg`). All other
files, and damaged ones, are left to `service.images.encoded`.
"""

import re
import threading
from functools import lru_cache
from typing import Final
from zlib import crc32

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from cifar10_serving.artifacts.metadata import InputShape

KEPT_SHAPES: Final = 64
MAX_BYTES: Final = 16 * 2**10
MAX_PIXELS: Final = 128 * 128
"""Larger images would block the event loop. A file of 32x32 pixels has 3 kB."""

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
PNG_HEADER: Final = PNG_SIGNATURE + b"\x00\x00\x00\rIHDR%b%b\x08\x02\x00\x00\x00"
"""Width and height in 4 bytes each, 8 bits, RGB, not interlaced. https://www.w3.org/TR/png-3/#11IHDR"""
PNG_FIRST_CHUNK: Final = 8
PNG_SECOND_CHUNK: Final = 33
PNG_END: Final = b"\x00\x00\x00\x00IEND\xaeB`\x82"
"""The last chunk, with its checksum."""
IGNORABLE_PNG_CHUNKS: Final = frozenset({b"IHDR", b"sRGB", b"gAMA", b"cHRM", b"iCCP", b"pHYs", b"tIME", b"sBIT"})
"""Pillow applies none of them to the pixels; it may apply others: transparency, orientation, animation."""

JPEG_HEADER: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
"""JFIF: three components are YCbCr. https://www.w3.org/Graphics/JPEG/jfif3.pdf"""
JPEG_FRAME: Final = b"\xff\xc0\x00\x11\x08%b%b\x03"
"""Baseline, 8 bits, height and width in 2 bytes each, three components. https://www.w3.org/Graphics/JPEG/itu-t81.pdf,
B.2.2"""
JPEG_SCAN: Final = b"\xff\xda\x00\x0c\x03"
JPEG_END: Final = b"\xff\xd9"
JPEG_MARKERS: Final = re.compile(rb"\xff[\xc0\xda\xe1\xe2\xee]")
"""Frame and scan, and markers that may change the pixels: EXIF and XMP, several pictures in a file, Adobe's colours."""
PLAIN_JPEG_MARKERS: Final = [JPEG_FRAME[:2], JPEG_SCAN[:2]]


def decode_unchanged(content: bytes, shape: InputShape) -> NDArray[np.uint8] | None:
    """Return the pixels uint8 RGB 0..255 of a file that has exactly this size and mode; None for any other file.

    Args:
        content: the file.
        shape: height, width and channels of the pixels.
    """
    if len(content) > MAX_BYTES:
        return None
    png_header, jpeg_frame = _headers(shape)
    try:
        if png_header and content.startswith(png_header):
            return _decode_png(content, shape)
        return _decode_jpeg(content, jpeg_frame) if content.startswith(JPEG_HEADER) else None
    except Exception:  # noqa: BLE001  # decoders raise whatever they meet; `encoded` says what is damaged
        return None


@lru_cache(KEPT_SHAPES)
def _headers(shape: InputShape) -> tuple[bytes, bytes]:
    """Return the header of PNGs with this shape and the frame of such JPEGs; nothing if they are too large."""
    height, width, _ = shape
    if height * width > MAX_PIXELS:
        return b"", b""
    png_header = PNG_HEADER % (width.to_bytes(4), height.to_bytes(4))
    return png_header, JPEG_FRAME % (height.to_bytes(2), width.to_bytes(2))


def _decode_png(content: bytes, shape: InputShape) -> NDArray[np.uint8] | None:
    """Return the pixels of a PNG; None if a chunk may change them or is damaged."""
    data = _only_data(content)
    if data is None:
        data = _data(content)
    if not data:
        return None
    image = _canvas((shape[1], shape[0]))
    image.frombytes(data, "zip", "RGB")
    return np.frombuffer(image.tobytes(), np.uint8).reshape(shape)


def _only_data(content: bytes) -> bytes | None:
    """Return the compressed pixels of a PNG with a single chunk of them and no other, as many programs write it.

    None for any other file; `_data` reads those.
    """
    start = PNG_SECOND_CHUNK
    end = start + 8 + int.from_bytes(content[start : start + 4])
    chunk = content[start + 4 : end]
    is_whole = (
        chunk.startswith(b"IDAT")
        and content[end + 4 :] == PNG_END
        and int.from_bytes(content[end : end + 4]) == crc32(chunk)
        and int.from_bytes(content[start - 4 : start]) == crc32(content[PNG_FIRST_CHUNK + 4 : start - 4])
    )
    return chunk[4:] if is_whole else None


def _data(content: bytes) -> bytes | None:
    """Return the compressed pixels of a PNG; None if a chunk may change them or is damaged."""
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
            break
        elif kind not in IGNORABLE_PNG_CHUNKS:
            return None
        start = end + 4
    return b"".join(data)


class _Canvases(threading.local):
    """The image that this thread decoded into last; a new one takes as long as a tenth of the decoding."""

    last: Image.Image | None = None


_canvases: Final = _Canvases()


def _canvas(size: tuple[int, int]) -> Image.Image:
    """Return an image to decode into, with any pixels; `frombytes` sets all of them, or raises an error."""
    image = _canvases.last
    if image is None or image.size != size:
        image = _canvases.last = Image.new("RGB", size)
    return image


def _decode_jpeg(content: bytes, frame: bytes) -> NDArray[np.uint8] | None:
    """Return the pixels of a JPEG; None if it has anything but one plain scan of this frame."""
    is_plain = (
        bool(frame)
        and frame in content
        and JPEG_SCAN in content
        and content.endswith(JPEG_END)
        and JPEG_MARKERS.findall(content) == PLAIN_JPEG_MARKERS
    )
    # Strict: for a damaged scan, libjpeg would return pixels with only a warning.
    return np.asarray(simplejpeg.decode_jpeg(content, strict=True)) if is_plain else None
