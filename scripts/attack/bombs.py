"""Decompression bombs and other small, expensive files: pixels, segments, chunks, metadata, frames, compressed bodies.

None may cause a 500, make other requests fail, or use much memory. Which ones are decoded and which are rejected is the
service's choice.
"""

import base64
import gzip
import io
import random
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from PIL import Image

from scripts.attack.attempts import Attempt, due, query, request
from scripts.attack.right import JSON, form, form_type
from scripts.attack.world import World

SIDE: Final = 7000
"""Its square is just below the service's default pixel limit."""
ANSWERS: Final = due(200, 400, 413, 415, 503, 504)
PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_SEGMENT_BYTES: Final = 65_533


def bomb(draw: random.Random, world: World) -> Attempt:
    """Draw an expensive file, sent as the body, in a form, in a batch, or in JSON."""
    name = draw.choice(list(FILES))
    content = file_of(name)
    target = world.target(draw)
    way = draw.choice(["raw", "raw", "form", "batch", "v1"]) if len(content) < 2**20 else "raw"
    if way == "raw":
        body = request("POST", query("/predict", model=target.model), content, [("Content-Type", "image/*")])
    elif way == "form":
        body = request("POST", "/predict", form([("file", "a", "", content)], "attack"), [form_type("attack")])
    elif way == "batch":
        parts = [("files", f"{index}", "", content) for index in range(draw.randint(2, 12))]
        body = request("POST", "/predict/batch", form(parts, "attack"), [form_type("attack")])
    else:
        document = b'{"signature_name":"encoded_images","instances":[%b]}' % b",".join(
            [b'{"b64":"%b"}' % base64.b64encode(content)] * draw.randint(1, 6)
        )
        body = request("POST", f"/v1/models/{target.model}:predict", document, [JSON])
    return Attempt(f"{name} {way}", body, ANSWERS)


def compressed_body(draw: random.Random, world: World) -> Attempt:
    """Draw a JSON body that decompresses to a thousand times its size."""
    target = world.target(draw)
    content = gzip.compress(b'{"instances": [' + b" " * draw.choice([2**20, 19 * 2**20, 60 * 2**20]) + b"]}", 1)
    path = draw.choice([f"/v1/models/{target.model}:predict", f"/v2/models/{target.model}/infer"])
    body = request("POST", path, content, [JSON, ("Content-Encoding", "gzip")])
    return Attempt("gzip", body, due(200, 400, 413, 503, 504))


def nested_document(draw: random.Random, world: World) -> Attempt:
    """Draw a JSON document that is nested deeply or has very many elements."""
    target = world.target(draw)
    depth = draw.choice([500, 5_000, 200_000])
    inner = draw.choice([b"[" * depth + b"]" * depth, b"[]," * depth + b"0", b'{"a":' * depth + b"1" + b"}" * depth])
    path = draw.choice([f"/v1/models/{target.model}:predict", f"/v2/models/{target.model}/infer"])
    body = b'{"instances": [%b], "inputs": [%b]}' % (inner, inner)
    return Attempt("nested", request("POST", path, body, [JSON]), due(400, 413, 503, 504))


@lru_cache
def file_of(name: str) -> bytes:
    """Return a file by its name; it is created once."""
    return FILES[name]()


def _flat(kind: str, side: int = SIDE, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (side, side)).save(stream, kind, **options)
    return stream.getvalue()


def _jpeg_with(segments: list[bytes]) -> bytes:
    plain = _flat("JPEG", 64)
    return plain[:2] + b"".join(segments) + plain[2:]


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png_with(chunks: bytes) -> bytes:
    plain = _flat("PNG", 64)
    head = len(PNG_SIGNATURE) + 25
    return plain[:head] + chunks + plain[head:]


def _exif_segments() -> bytes:
    return _jpeg_with([_segment(0xE1, b"Exif\0\0" + b"II*\0\x08\0\0\0" + bytes(6))] * 40_000)


def _progressive_scans() -> bytes:
    plain = _flat("JPEG", 500, progressive=True)
    scan = plain[plain.rindex(b"\xff\xda") : -2]
    return plain[:-2] + scan * 5_000 + plain[-2:]


def _animation(kind: str) -> bytes:
    frames = [Image.new("RGB", (200, 200), (index % 256, index // 256, 0)) for index in range(600)]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    return stream.getvalue()


def _giant_head(kind: str) -> bytes:
    """Build a file whose header claims a giant image that isn't there."""
    if kind == "PNG":
        head = _chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0))
        return PNG_SIGNATURE + head + _chunk(b"IDAT", zlib.compress(bytes(1000))) + _chunk(b"IEND")
    if kind == "GIF":
        return b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0xF0, 0, 0) + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0"
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 6900, 6900, 1, 32, 0, 0, 0, 0, 0, 0)


FILES: Final[dict[str, Callable[[], bytes]]] = {
    "PNG pixels": lambda: _flat("PNG"),
    "PNG pixels with alpha": lambda: _flat("PNG", mode="RGBA"),
    "PNG 16 bits": lambda: _flat("PNG", mode="I;16"),
    "PNG too many pixels": lambda: _flat("PNG", 9000, mode="1"),
    "PNG giant head": lambda: _giant_head("PNG"),
    "PNG chunks": lambda: _png_with(_chunk(b"teSt") * 150_000),
    "PNG zTXt": lambda: _png_with(_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(60 * 2**20), 9))),
    "PNG many zTXt": lambda: _png_with(_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20), 9)) * 300),
    "PNG iTXt": lambda: _png_with(_chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(60 * 2**20), 9))),
    "PNG iCCP": lambda: _png_with(_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(60 * 2**20), 9))),
    "APNG": lambda: _animation("PNG"),
    "WebP pixels": lambda: _flat("WEBP", lossless=True),
    "WebP pixels with alpha": lambda: _flat("WEBP", mode="RGBA", lossless=True),
    "WebP animation": lambda: _animation("WEBP"),
    "GIF pixels": lambda: _flat("GIF", mode="P"),
    "GIF animation": lambda: _animation("GIF"),
    "GIF giant head": lambda: _giant_head("GIF"),
    "BMP giant head": lambda: _giant_head("BMP"),
    "JPEG pixels": lambda: _flat("JPEG"),
    "JPEG progressive pixels": lambda: _flat("JPEG", 4000, progressive=True),
    "JPEG scans": _progressive_scans,
    "JPEG EXIF segments": _exif_segments,
    "JPEG comments": lambda: _jpeg_with([_segment(0xFE, b"")] * 100_000),
    "JPEG profiles": lambda: _jpeg_with([_segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(MAX_SEGMENT_BYTES - 14))] * 120),
    "JPEG APP13": lambda: _jpeg_with(
        [_segment(0xED, b"Photoshop 3.0\x00" + b"8BIM\x04\x04\0\0\0\0\0\0" * 5_000)] * 100
    ),
    "JPEG MPF": lambda: _jpeg_with([_segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + bytes(300))] * 5_000),
    "TIFF pixels": lambda: _flat("TIFF", mode="1", compression="group4"),
    "TIFF deflated pixels": lambda: _flat("TIFF", compression="tiff_adobe_deflate"),
    "AVIF pixels": lambda: _flat("AVIF", 4000, speed=10),
    "HEIF pixels": lambda: _flat("HEIF", 4000),
}
