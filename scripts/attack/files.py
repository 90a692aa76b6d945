"""Image files that are damaged, truncated, mixed up, or declared as something else."""

import io
import random
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from PIL import Image

from scripts.attack.attempts import Attempt, chance, due, query, request
from scripts.attack.right import form, form_type
from scripts.attack.world import IMAGES, World

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "ICO", "PPM")
UNREAD: Final = ("ICO", "PPM")
"""Formats that the service doesn't read."""
MODES: Final = {
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "JPEG": ("RGB", "L", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("P", "L"),
    "BMP": ("RGB", "L", "1", "P"),
    "TIFF": ("RGB", "L", "CMYK", "I;16", "1", "P"),
    "AVIF": ("RGB", "RGBA"),
    "HEIF": ("RGB", "RGBA"),
    "ICO": ("RGBA",),
    "PPM": ("RGB", "L"),
}
SIDES: Final = (1, 32, 90)
MAX_FLIPS: Final = 12
MAX_RANGE: Final = 64
ANSWERS: Final = due(200, 400, 413, 415, 503, 504)


@lru_cache(maxsize=256)
def whole(kind: str, mode: str, side: int) -> bytes:
    """Return a valid file of a format."""
    with Image.open(sorted(IMAGES.glob("*.png"))[side % 10]) as shipped:
        image = shipped.convert("L" if mode == "I;16" else mode).resize((side, side + side // 3))
    if mode == "I;16":
        image = image.convert("I").point(lambda value: value * 256).convert("I;16")
    stream = io.BytesIO()
    extra = {"progressive": True} if kind == "JPEG" and side == SIDES[-1] else {}
    image.save(stream, kind, **extra)
    return stream.getvalue()


def damaged(draw: random.Random, world: World) -> Attempt:
    """Draw a valid file with parts of it changed."""
    kind = draw.choice(FORMATS)
    before = whole(kind, draw.choice(MODES[kind]), draw.choice(SIDES))
    start, name = draw.randrange(len(before)), draw.choice(list(DAMAGES))
    content = DAMAGES[name](draw, bytearray(before), start, min(len(before), start + draw.randint(1, MAX_RANGE)))
    if chance(draw, 0.3):
        mark = "attack"
        body, headers = form([("file", "a", f"image/{kind.lower()}", content)], mark), [form_type(mark)]
    else:
        declared = draw.choice([f"image/{kind.lower()}", "application/octet-stream", "image/png"])
        body, headers = content, [("Content-Type", declared)]
    asked = query("/predict", model=draw.choice([None, world.target(draw).model]))
    return Attempt(f"{kind} {name}", request("POST", asked, body, headers), ANSWERS, reuses=True)


def undamaged(draw: random.Random, _world: World) -> Attempt:
    """Draw a valid file of an unusual mode or size; 503 and 504 are allowed, since decoder threads may be busy."""
    kind = draw.choice(FORMATS)
    content = whole(kind, draw.choice(MODES[kind]), draw.choice(SIDES))
    body = request("POST", "/predict", content, [("Content-Type", "application/octet-stream")])
    accepted = due(400, 415) if kind in UNREAD else due(200, 503, 504)
    return Attempt(kind, body, accepted, reuses=True)


Damage = Callable[[random.Random, bytearray, int, int], bytes]
"""Damages a file between two offsets."""


def _flipped(draw: random.Random, content: bytearray, _start: int, _end: int) -> bytes:
    for _ in range(draw.randint(1, MAX_FLIPS)):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(content)


def _spliced(draw: random.Random, content: bytearray, start: int, _end: int) -> bytes:
    other = draw.choice([whole("PNG", "RGB", SIDES[1]), whole("JPEG", "RGB", SIDES[2])])
    return bytes(content[:start]) + other[draw.randrange(len(other)) :]


def _filled(draw: random.Random, content: bytearray, start: int, end: int) -> bytes:
    content[start:end] = draw.choice([b"\x00", b"\xff", b"\x7f\xff\xff\xff"]) * (end - start)
    return bytes(content)


DAMAGES: Final[dict[str, Damage]] = {
    "cut off": lambda _draw, content, start, _end: bytes(content[:start]),
    "shortened": lambda _draw, content, start, end: bytes(content[:start] + content[end:]),
    "doubled": lambda _draw, content, start, end: bytes(content[:end] + content[start:]),
    "overwritten": lambda draw, content, start, end: (
        bytes(content[:start]) + draw.randbytes(end - start) + bytes(content[end:])
    ),
    "head alone": lambda draw, content, _start, _end: bytes(content[: draw.randint(1, 40)]),
    "bits flipped": _flipped,
    "spliced": _spliced,
    "filled": _filled,
}
