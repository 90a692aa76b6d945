"""Everything that counts as an image arrives at the real service as the same pixels; what doesn't is told at once."""

from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client import Client, ImageSourceError
from client._images import encode_image
from tests.conftest import SAMPLES, golden_class

SHIP = next(sample for sample in SAMPLES if sample.file.stem.startswith("ship"))
SOURCES: dict[str, Callable[[], Any]] = {
    "path": lambda: SHIP.file,
    "text of a path": lambda: str(SHIP.file),
    "bytes": SHIP.file.read_bytes,
    "bytearray": lambda: bytearray(SHIP.file.read_bytes()),
    "file in memory": lambda: BytesIO(SHIP.file.read_bytes()),
    "array": lambda: SHIP.pixels,
    "array that is not contiguous": lambda: np.asfortranarray(SHIP.pixels),
    "Pillow image": lambda: Image.fromarray(SHIP.pixels),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_every_source_gets_the_golden_class(service: Client, source: Callable[[], Any]) -> None:
    prediction = service.predict(source(), model="sequential", top_k=1)
    assert prediction.class_id == golden_class("sequential", SHIP)
    assert prediction == service.predict(SHIP.file, model="sequential", top_k=1)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 7, 3), (300, 200, 3)])
def test_array_becomes_a_png_of_the_same_pixels(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    sent = encode_image(pixels)
    assert sent.content_type == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(sent.content))), pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_file_is_sent_as_it_is_with_its_type(kind: str) -> None:
    stream = BytesIO()
    Image.fromarray(SHIP.pixels).save(stream, kind)
    sent = encode_image(stream.getvalue())
    assert sent.content == stream.getvalue()
    assert sent.content_type == f"image/{kind.lower()}"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "F"])
def test_pillow_images_of_every_mode_can_be_sent(mode: str) -> None:
    sent = encode_image(Image.new(mode, (4, 3)))
    assert Image.open(BytesIO(sent.content)).size == (4, 3)


def test_pillow_image_of_a_photo_on_its_side_keeps_what_turns_it_upright(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SHIP.pixels).save(photo, exif=exif)
    with Image.open(photo) as opened:
        sent = encode_image(opened)
    assert Image.open(BytesIO(sent.content)).getexif()[0x0112] == 6


def test_open_file_gives_its_name(tmp_path: Path) -> None:
    with SHIP.file.open("rb") as file:
        assert encode_image(file).name == str(SHIP.file)
    assert encode_image(b"x").name is None


def closed_file() -> BytesIO:
    file = BytesIO(b"x")
    file.close()
    return file


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("missing.png", "there is no file missing.png"),
        (SHIP.file.parent, "is a folder. Expected: a file. What to do: give its files to predict_many"),
        ("null\0.png", "can't be read: embedded null"),
        (StringIO("text"), "opened as text"),
        (closed_file(), "can't be read: I/O operation on closed file"),
        (np.zeros((32, 32), np.uint8), "the array is .32, 32. uint8. Expected: .height, width, 3. uint8"),
        (np.zeros((32, 32, 3)), "the array is .32, 32, 3. float64"),
        (np.zeros((0, 32, 3), np.uint8), "the array is .0, 32, 3."),
        (np.zeros((8, 32, 32, 3), np.uint8), "predict_many or predict_batch"),
        (42, "a int is no image. Expected: a path, the bytes"),
    ],
)
def test_what_is_no_image_is_told_before_anything_is_sent(source: Any, words: str) -> None:
    with pytest.raises(ImageSourceError, match=words):
        encode_image(source)


def test_pillow_image_whose_file_is_broken_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(SHIP.file.read_bytes()[:500])
    with Image.open(broken) as opened, pytest.raises(ImageSourceError, match="Pillow image can't be encoded"):
        encode_image(opened)
