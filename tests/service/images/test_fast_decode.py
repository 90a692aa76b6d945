"""The fast decoder returns Pillow's pixels or leaves the file to Pillow; it never decodes a damaged file."""

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from service.errors import UndecodableError
from service.images.encoded import EncodedImage
from service.images.fast_decode import decode_unchanged
from tests.conftest import SAMPLES

JPEG_OPTIONS: list[dict[str, object]] = [
    {"quality": 30, "subsampling": "4:4:4"},
    {"quality": 90, "subsampling": "4:2:2"},
    {"quality": 90, "subsampling": "4:2:0"},
    {"quality": 75, "optimize": True},
    {"quality": 75, "comment": b"a comment"},
    {"quality": 75, "restart_marker_blocks": 1},
]


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def by_pillow(content: bytes) -> NDArray[np.uint8] | None:
    try:
        return EncodedImage(content, (32, 32, 3), max_pixels=10_000).decode()
    except UndecodableError:
        return None


def are_same(pixels: NDArray[np.uint8] | None, others: NDArray[np.uint8] | None) -> bool:
    return pixels is not None and others is not None and np.array_equal(pixels, others)


def sample(index: int = 0) -> Image.Image:
    return Image.fromarray(SAMPLES[index].pixels)


@pytest.mark.parametrize("index", range(len(SAMPLES)))
def test_pngs_pixels_are_the_ones_that_were_saved(index: int) -> None:
    for options in ({}, {"optimize": True}, {"compress_level": 0}, {"dpi": (72, 72)}, {"icc_profile": b"a profile"}):
        pixels = decode_unchanged(encode(sample(index), "PNG", **options), (32, 32, 3))
        assert pixels is not None
        assert np.array_equal(pixels, SAMPLES[index].pixels)


@pytest.mark.parametrize("options", JPEG_OPTIONS, ids=str)
def test_jpegs_pixels_are_pillows(options: dict[str, object]) -> None:
    for index in range(len(SAMPLES)):
        content = encode(sample(index), "JPEG", **options)
        pixels = decode_unchanged(content, (32, 32, 3))
        assert are_same(pixels, by_pillow(content))


def with_text() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "exif")
    return encode(sample(), "PNG", pnginfo=text)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no image",
        encode(sample(), "WEBP"),
        encode(sample(), "BMP"),
        encode(sample().resize((33, 32)), "PNG"),
        encode(sample().resize((33, 32)), "JPEG"),
        encode(sample().convert("L"), "PNG"),
        encode(sample().convert("L"), "JPEG"),
        encode(sample().convert("RGBA"), "PNG"),
        encode(sample().convert("P"), "PNG"),
        encode(sample().convert("CMYK"), "JPEG"),
        encode(sample(), "PNG", transparency=(0, 0, 0)),
        encode(sample(), "PNG", exif=turned()),
        encode(sample(), "JPEG", exif=turned()),
        encode(sample(), "JPEG", progressive=True),
        encode(sample(), "JPEG", icc_profile=b"a profile"),
        encode(sample(), "PNG", save_all=True, append_images=[sample(1)]),
        encode(sample(), "MPO", save_all=True, append_images=[sample(1)]),
        encode(sample(), "JPEG", keep_rgb=True),
        with_text(),
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_whatever_else_is_left_to_pillow(content: bytes) -> None:
    assert decode_unchanged(content, (32, 32, 3)) is None


def damaged(content: bytes) -> list[bytes]:
    random = np.random.default_rng(7)
    broken = []
    for place in random.integers(0, len(content), 400):
        changed = bytearray(content)
        changed[place] ^= 1 << int(random.integers(8))
        broken.append(bytes(changed))
    return broken


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_file_that_is_cut_off_is_left_to_pillow(kind: str) -> None:
    content = encode(sample(), kind)
    assert all(decode_unchanged(content[:length], (32, 32, 3)) is None for length in range(len(content)))


def test_of_a_damaged_png_it_makes_nothing_that_pillow_would_not() -> None:
    made = [
        (pixels, file)
        for file in damaged(encode(sample(), "PNG"))
        if (pixels := decode_unchanged(file, (32, 32, 3))) is not None
    ]
    assert all(are_same(pixels, by_pillow(file)) for pixels, file in made)


def test_of_a_damaged_jpeg_it_makes_the_pixels_that_pillow_makes() -> None:
    made = [
        (pixels, others)
        for file in damaged(encode(sample(), "JPEG"))
        if (pixels := decode_unchanged(file, (32, 32, 3))) is not None and (others := by_pillow(file)) is not None
    ]
    assert len(made) > 100
    assert all(are_same(pixels, others) for pixels, others in made)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("shape", [(24, 40, 3), (40, 24, 3), (100, 100, 3)])
def test_files_of_another_versions_size_are_read_for_that_alone(kind: str, shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(3).integers(100, 104, shape, np.uint8)
    content = encode(Image.fromarray(pixels), kind)
    assert are_same(decode_unchanged(content, shape), EncodedImage(content, shape, max_pixels=10_000).decode())
    assert decode_unchanged(content, (32, 32, 3)) is None
    assert decode_unchanged(content, (shape[1], shape[0] + 1, 3)) is None
