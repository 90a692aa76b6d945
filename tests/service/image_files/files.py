"""Image files made for these tests, and the parts that they are made of."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image

from service.images import EncodedImage

MAX_PIXELS = 50_000_000


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = BytesIO()
    if kind == "HEIC":
        pillow_heif.from_pillow(image).save(stream, **options)
    else:
        image.save(stream, kind, **options)
    return stream.getvalue()


def decode(content: bytes) -> NDArray[np.uint8]:
    return EncodedImage(content, max_pixels=MAX_PIXELS).decode()


def noise(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    generator = np.random.default_rng(width * height)
    small = generator.integers(0, 256, (height // 5 + 2, width // 5 + 2, 4), dtype=np.uint8)
    image = Image.fromarray(small, "RGBA").resize((width, height), Image.Resampling.BILINEAR)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def chunk(kind: bytes, payload: bytes = b"", *, damage: int = 0) -> bytes:
    """A PNG chunk; a wrong sum where `damage` isn't 0."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload) ^ damage)


def in_png(content: bytes, chunks: bytes) -> bytes:
    """The PNG with these chunks behind its header."""
    return content[:33] + chunks + content[33:]


def segment(marker: int, payload: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def in_jpeg(content: bytes, segments: bytes) -> bytes:
    return content[:2] + segments + content[2:]


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def tiff(tags: dict[int, tuple[int, int, int]], data: bytes) -> bytes:
    """A little-endian TIFF; tag -> type, count, and value or place. The data begin at 8."""
    entries = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def box(kind: bytes, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload) + 8) + kind + payload


def exif(orientation: int) -> bytes:
    made = Image.Exif()
    made[0x0112] = orientation
    return made.tobytes()


Make = Callable[[], bytes]
