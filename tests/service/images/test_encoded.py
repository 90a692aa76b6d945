"""The rules from uploaded file to model input, in each format, mode and size that Pillow reads."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from service.errors import TooLargeError, UndecodableError
from service.images.encoded import READABLE_FORMATS, EncodedImage
from tests.conftest import SAMPLES, SampleImage
from tests.service.images.formats.files import encode

MAX_PIXELS = 1_000_000
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def decode(content: bytes) -> NDArray[np.uint8]:
    pixels = EncodedImage(content, (32, 32, 3), max_pixels=MAX_PIXELS).decode()
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    return pixels


def halves(left: tuple[int, ...], right: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (32, 32), left)
    image.paste(right, (16, 0, 32, 32))
    return image


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.file.stem)
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_lossless_32x32_images_pass_unchanged(sample: SampleImage, kind: str, options: dict[str, object]) -> None:
    content = encode(Image.fromarray(sample.pixels), kind, **options)
    assert np.array_equal(decode(content), sample.pixels)


@pytest.mark.parametrize("kind", READABLE_FORMATS)
def test_every_format_is_read_nearly_as_it_was(kind: str) -> None:
    sample = SAMPLES[0]
    difference = np.abs(decode(encode(Image.fromarray(sample.pixels), kind)).astype(int) - sample.pixels)
    assert difference.mean() < 8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new(mode, (40, 40), 65535) if mode == "I;16" else Image.new("RGB", (40, 40), WHITE).convert(mode)
    kind = "JPEG" if mode in {"CMYK", "YCbCr"} else "PNG"
    assert decode(encode(image, kind)).min() >= 254


def test_16_bit_grey_keeps_its_upper_8_bits() -> None:
    values = np.arange(32, dtype=np.uint16)[:, None].repeat(32, axis=1) * 2048 + 255
    assert np.array_equal(decode(encode(Image.fromarray(values)))[:, 0, 0], values[:, 0] >> 8)


def test_transparent_pixels_are_white_and_half_transparent_ones_half_white() -> None:
    pixels = decode(encode(halves((*RED, 0), (0, 0, 0, 128), "RGBA")))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 31].tolist() == [127, 127, 127]


def test_transparent_palette_colour_is_white() -> None:
    image = halves(RED, GREEN).convert("P", palette=Image.Palette.ADAPTIVE)
    pixels = decode(encode(image, transparency=image.getpixel((0, 0))))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 31].tolist() == list(GREEN)


def test_transparent_colour_of_an_rgb_png_is_white() -> None:
    assert decode(encode(halves(RED, GREEN), transparency=RED))[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", (64, 32), RED)
    image.paste(BLUE, (32, 0, 64, 16))
    turned = encode(image, kind, exif=exif)
    with Image.open(BytesIO(turned)) as opened:
        expected = decode(encode(ImageOps.exif_transpose(opened)))
    assert np.abs(decode(turned).astype(int) - expected).mean() < 4


def test_odd_exif_is_no_reason_to_reject_a_photo() -> None:
    orientation = struct.pack(">HHIHH", 0x0112, 3, 1, 3, 0)  # upside down
    resolution = struct.pack(">HHI4s", 0x011A, 2, 4, b"72\0\0")  # text, where every sane file has a number
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + orientation + resolution + bytes(4)
    content = encode(halves(RED, BLUE), "JPEG", exif=exif)
    assert decode(content)[16, 2, 2] > 200


def test_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in (RED, GREEN)]
    assert decode(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))[5, 5].tolist() == list(RED)


def test_central_square_is_what_the_model_sees() -> None:
    wide = Image.new("RGB", (96, 32), RED)
    wide.paste(BLUE, (32, 0, 64, 32))
    assert (decode(encode(wide)) == BLUE).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (31, 33), (640, 480), (1, 900)])
def test_any_size_is_resized(size: tuple[int, int]) -> None:
    assert (decode(encode(Image.new("RGB", size, GREEN))) == GREEN).all()


def test_large_photo_keeps_its_average_brightness() -> None:
    generator = np.random.default_rng(1)
    photo = Image.fromarray(generator.integers(0, 256, (900, 1000, 3), dtype=np.uint8))
    assert decode(encode(photo, "JPEG", quality=90)).mean() == pytest.approx(127.5, abs=3)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"<svg/>", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"II*\x00" * 9, b"\xff\xd8\xff"]
)
def test_what_is_no_image_is_rejected_in_words(content: bytes) -> None:
    with pytest.raises(UndecodableError, match=r"PNG, JPEG, WEBP, GIF, BMP"):
        decode(content)


def test_formats_outside_the_list_are_rejected() -> None:
    with pytest.raises(UndecodableError):
        decode(encode(Image.new("RGB", (32, 32)), "ICO", sizes=[(32, 32)]))


@pytest.mark.parametrize("kind", READABLE_FORMATS)
def test_cut_off_file_is_rejected_in_words(kind: str) -> None:
    generator = np.random.default_rng(2)
    content = encode(Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    with pytest.raises(UndecodableError, match=r"decoded|read"):
        decode(content[: len(content) // 2])


def test_huge_image_in_a_few_kilobytes_is_rejected_before_it_is_decoded() -> None:
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\x00" * (20_000 // 8 + 1) * 100)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    with pytest.raises(TooLargeError, match=r"20,000 x 20,000 = 400,000,000 pixels.*at most 1,000,000 pixels"):
        EncodedImage(png, (32, 32, 3), max_pixels=MAX_PIXELS)


def test_jpeg_with_more_scans_than_any_honest_one_is_rejected() -> None:
    content = encode(Image.new("RGB", (64, 64), RED), "JPEG", progressive=True)
    decode(content)
    start = content.rindex(b"\xff\xda")
    with pytest.raises(TooLargeError, match=r"the JPEG has \d+ scans"):
        EncodedImage(content[:start] + content[start:-2] * 40 + content[-2:], (32, 32, 3), max_pixels=MAX_PIXELS)


def test_scans_behind_ten_thousand_comments_are_rejected_too() -> None:
    content = encode(Image.new("RGB", (64, 64), RED), "JPEG", progressive=True)
    with pytest.raises(TooLargeError, match="more than 10,000 segments"):
        EncodedImage(content[:2] + b"\xff\xfe\x00\x02" * 10_000 + content[2:], (32, 32, 3), max_pixels=MAX_PIXELS)


def test_what_a_camera_appends_to_a_jpeg_does_not_count_as_scans() -> None:
    film = np.random.default_rng(4).bytes(3_000_000)
    assert film.count(b"\xff\xda") > 32
    photo = encode(Image.new("RGB", (64, 64), RED), "JPEG", progressive=True)
    assert np.array_equal(decode(photo + film), decode(photo))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_damaged_exif_block_is_passed_over(kind: str) -> None:
    content = encode(halves(RED, BLUE), kind, exif=b"Exif\0\0garbage!garbage")
    assert decode(content)[16, 2, 0] > 200


def test_transparent_value_of_a_16_bit_grey_png_is_white() -> None:
    values = np.zeros((32, 32), np.uint16)
    values[:, 16:] = 40_000
    assert decode(encode(Image.fromarray(values), transparency=0))[0, ::31, 0].tolist() == [255, 40_000 >> 8]


def test_damaged_files_never_raise_anything_else(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    originals = [encode(Image.fromarray(SAMPLES[0].pixels), kind) for kind in READABLE_FORMATS]
    rejected = 0
    for round_number in range(600):
        content = bytearray(originals[round_number % len(originals)])
        for position in generator.integers(0, len(content), 5):
            content[position] = generator.integers(0, 256)
        try:
            decode(bytes(content))
        except (UndecodableError, TooLargeError):
            rejected += 1
    assert rejected > 50


@pytest.mark.parametrize("size", [(48, 24), (24, 48), (1024, 8), (100, 100)])
def test_a_version_may_take_images_of_any_shape(size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    content = encode(Image.fromarray(pixels))
    assert np.array_equal(EncodedImage(content, (height, width, 3), max_pixels=MAX_PIXELS).decode(), pixels)


def test_the_largest_part_in_the_middle_of_a_versions_shape_is_what_it_sees() -> None:
    picture = Image.new("RGB", (90, 90), RED)
    picture.paste(BLUE, (0, 30, 90, 60))
    for seen, shape in ((picture, (20, 60, 3)), (picture.rotate(90), (60, 20, 3))):
        pixels = EncodedImage(encode(seen), shape, max_pixels=MAX_PIXELS).decode()
        assert pixels.shape == shape
        assert pixels[..., 2].min() > 240


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_for_a_version_that_takes_no_squares(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8))
    picture = picture.resize((960, 600), Image.Resampling.BICUBIC)
    turned = encode(picture, exif=exif)
    with Image.open(BytesIO(turned)) as opened:
        upright = encode(ImageOps.exif_transpose(opened))
    given, expected = (
        EncodedImage(content, (24, 40, 3), max_pixels=MAX_PIXELS).decode().astype(int) for content in (turned, upright)
    )
    assert given.shape == (24, 40, 3)
    assert np.abs(given - expected).mean() < 4
