"""Image files made for these tests, and their parts."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image

from service.images.encoded import EncodedImage

MAX_PIXELS = 50_000_000


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = BytesIO()
    if kind == "HEIC":
        pillow_heif.from_pillow(image).save(stream, **options)
    else:
        image.save(stream, kind, **options)
    return stream.getvalue()


def decode(content: bytes) -> NDArray[np.uint8]:
    return EncodedImage(content, (32, 32, 3), max_pixels=MAX_PIXELS).decode()


def noise(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    generator = np.random.default_rng(width * height)
    small = generator.integers(0, 256, (height // 5 + 2, width // 5 + 2, 4), dtype=np.uint8)
    image = Image.fromarray(small, "RGBA").resize((width, height), Image.Resampling.BILINEAR)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def chunk(kind: bytes, payload: bytes = b"", *, damage: int = 0) -> bytes:
    """Return a PNG chunk, with a wrong checksum if `damage` isn't 0."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload) ^ damage)


def in_png(content: bytes, chunks: bytes) -> bytes:
    """Return the PNG with these chunks after its header."""
    return content[:33] + chunks + content[33:]


def segment(marker: int, payload: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def in_jpeg(content: bytes, segments: bytes) -> bytes:
    return content[:2] + segments + content[2:]


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def tiff(tags: dict[int, tuple[int, int, int]], data: bytes) -> bytes:
    """Return a little-endian TIFF; tags map to type, count, and value or offset. The data starts at 8."""
    entries = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def box(kind: bytes, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload) + 8) + kind + payload


def heic_of_tiles(side: int, columns: int, width: int, height: int) -> bytes:
    """Return a HEIC whose picture is a row of the same tile, once per column."""
    tile = encode(Image.new("RGB", (side, side), "#5a141e"), "HEIC")
    start = tile.index(b"hvcC") - 4
    configuration = tile[start : start + int.from_bytes(tile[start : start + 4])]
    data = tile[tile.index(b"mdat") + 4 :]
    grid = struct.pack(">BBBBII", 0, 1, 0, columns - 1, width, height)

    def full(kind: bytes, payload: bytes, version: int = 0) -> bytes:
        return box(kind, struct.pack(">I", version << 24) + payload)

    def info(number: int, kind: bytes) -> bytes:
        return full(b"infe", struct.pack(">HH", number, 0) + kind + b"\0", 2)

    def extent(width: int, height: int) -> bytes:
        return full(b"ispe", struct.pack(">II", width, height))

    def head(place: int) -> bytes:
        places = struct.pack(">HHHHHHII", 0x4400, 2, 1, 1, 0, 1, 0, len(grid))
        places += struct.pack(">HHHHII", 2, 0, 0, 1, place, len(data))
        properties = box(b"ipco", configuration + extent(side, side) + extent(width, height))
        properties += full(b"ipma", struct.pack(">IHBBHBBB", 2, 1, 1, 3, 2, 2, 0x81, 2))
        pictures = [
            full(b"hdlr", bytes(4) + b"pict" + bytes(13)),
            full(b"pitm", b"\0\1"),
            full(b"iloc", places, 1),
            full(b"iinf", b"\0\2" + info(1, b"grid") + info(2, b"hvc1")),
            full(b"iref", box(b"dimg", struct.pack(">HH", 1, columns) + b"\0\2" * columns)),
            box(b"iprp", properties),
            box(b"idat", grid),
        ]
        kinds = box(b"ftyp", b"heic\0\0\0\0mif1heic")
        return kinds + full(b"meta", b"".join(pictures)) + struct.pack(">I", len(data) + 8) + b"mdat"

    return head(len(head(0))) + data


def exif(orientation: int) -> bytes:
    made = Image.Exif()
    made[0x0112] = orientation
    return made.tobytes()


Make = Callable[[], bytes]
