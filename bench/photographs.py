"""Photograph-like JPEGs, as people upload them: golden images enlarged, with detail at every scale.

A server that scales an upload to the smaller side and cuts out the middle gets the golden image again, nearly, so its
class is known. The detail comes from a seeded generator; its strength gives the file the wanted size.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.uploads import Upload, golden

QUALITY: Final = 85
SIZE_TOLERANCE: Final = 0.03
STEPS: Final = 12
STRONGEST: Final = 80.0
SURE: Final = 0.95
"""The golden probability from which on the class must survive enlarging and scaling back."""


@dataclass(frozen=True)
class Format:
    """The size in pixels of photographs, and that of their files."""

    width: int
    height: int
    file_bytes: int


@dataclass(frozen=True)
class Photograph:
    """A JPEG, and the index of its class."""

    upload: Upload
    class_id: int


def photographs(version: Path, form: Format, count: int) -> list[Photograph]:
    """Return photographs of the golden images of which a version is sure, each another; at most `count`."""
    images, probabilities = golden(version)
    sure = [index for index in range(len(images)) if probabilities[index].max() >= SURE][:count]
    return [
        Photograph(
            Upload(_photograph(images[index], form, seed=index), "image/jpeg"), int(probabilities[index].argmax())
        )
        for index in sure
    ]


def enlarged(pictures: Sequence[NDArray[np.uint8]], form: Format) -> list[Upload]:
    """Return a photograph of each picture (height, width, 3) RGB."""
    return [Upload(_photograph(pixels, form, seed=number), "image/jpeg") for number, pixels in enumerate(pictures)]


def _photograph(pixels: NDArray[np.uint8], form: Format, *, seed: int) -> bytes:
    """Enlarge an image and search for the strength of detail that gives the file its size."""
    smooth = np.asarray(_enlarged(pixels, form), np.int16)
    detail = _detail(form, np.random.default_rng(seed))
    low, high = 0.0, STRONGEST
    content = b""
    for _ in range(STEPS):
        strength = (low + high) / 2
        noisy = np.clip(smooth + (detail * np.float32(strength)).astype(np.int16)[..., None], 0, 255)
        content = _jpeg(Image.fromarray(noisy.astype(np.uint8)))
        if abs(len(content) - form.file_bytes) <= form.file_bytes * SIZE_TOLERANCE:
            break
        low, high = (strength, high) if len(content) < form.file_bytes else (low, strength)
    return content


def _enlarged(pixels: NDArray[np.uint8], form: Format) -> Image.Image:
    """Enlarge to a square in the middle, and mirror it at both sides."""
    side = form.height
    square = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    margin = (form.width - side) // 2
    whole = Image.new("RGB", (form.width, side))
    mirrored = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for left in (margin - side, margin + side):
        whole.paste(mirrored, (left, 0))
    whole.paste(square, (margin, 0))
    return whole


def _detail(form: Format, random: np.random.Generator) -> NDArray[np.float32]:
    """Add up noise at scales from one pixel to a sixteenth of the height, the coarser the weaker; standard deviation 1.

    It has no coarser scales, so that little of it is left in the small image.
    """
    whole = np.zeros((form.height, form.width), np.float32)
    for scale in _scales(form.height):
        size = (-(-form.width // scale), -(-form.height // scale))
        noise = Image.fromarray(random.standard_normal(size[::-1], np.float32))
        whole += np.asarray(noise.resize((form.width, form.height), Image.Resampling.BILINEAR))
    whole /= whole.std(dtype=np.float64)
    return whole


def _scales(height: int) -> Iterator[int]:
    scale = 1
    while scale * 64 <= height:
        yield scale
        scale *= 2


def _jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()
