"""Pictures as training decodes them, compared with the service, which shall show the model the same pixels."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar10_serving.artifacts.metadata import InputShape
from service.images.encoded import EncodedImage
from training.data.decoding import UnreadablePictureError, decode

SIZE = (200, 120)


def gradient(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture without symmetry."""
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    pixels = np.stack([across, down, (across * down) % 255], axis=2).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def with_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def translucent() -> Image.Image:
    image = gradient("RGBA")
    image.putalpha(gradient("L"))
    return image


def deep_grey() -> Image.Image:
    values = np.linspace(0, 65535, SIZE[0] * SIZE[1]).reshape(SIZE[1], SIZE[0]).astype(np.uint16)
    return Image.fromarray(values)


FILES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded(gradient(), "JPEG"),
    "large jpeg": lambda: encoded(gradient(size=(1600, 1100)), "JPEG"),
    "grey jpeg": lambda: encoded(gradient("L"), "JPEG"),
    "cmyk jpeg": lambda: encoded(gradient("CMYK"), "JPEG"),
    "progressive jpeg": lambda: encoded(gradient(), "JPEG", progressive=True),
    **{
        f"jpeg turned by {turn}": lambda turn=turn: encoded(gradient(), "JPEG", exif=with_exif(turn))  # type: ignore[misc]
        for turn in range(1, 9)
    },
    "png": lambda: encoded(gradient(), "PNG"),
    "translucent png": lambda: encoded(translucent(), "PNG"),
    "palette png": lambda: encoded(gradient("P"), "PNG"),
    "transparent palette png": lambda: encoded(gradient("P"), "PNG", transparency=3),
    "black and white png": lambda: encoded(gradient("1"), "PNG"),
    "16-bit png": lambda: encoded(deep_grey(), "PNG"),
    "turned png": lambda: encoded(gradient(), "PNG", exif=with_exif(6)),
    "gif": lambda: encoded(gradient("P"), "GIF"),
    "animated gif": lambda: encoded(
        gradient("P"), "GIF", save_all=True, append_images=[gradient("P").transpose(Image.Transpose.ROTATE_180)]
    ),
    "bmp": lambda: encoded(gradient(), "BMP"),
    "tiff": lambda: encoded(gradient(), "TIFF"),
    "turned tiff": lambda: encoded(gradient(), "TIFF", tiffinfo={274: 8}),
    "16-bit tiff": lambda: encoded(deep_grey(), "TIFF"),
    "webp": lambda: encoded(gradient(), "WEBP", lossless=True),
    "translucent webp": lambda: encoded(translucent(), "WEBP", lossless=True),
    "avif": lambda: encoded(gradient(), "AVIF"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("shape", [(32, 32, 3), (48, 64, 3)])
def test_pixels_are_those_of_the_service(name: str, shape: InputShape) -> None:
    content = FILES[name]()
    served = EncodedImage(content, shape, max_pixels=10**7).decode()
    assert np.array_equal(decode(content, shape), served)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not a picture"), (b"text", "not a picture"), (FILES["jpeg"]()[:2000], "truncated")],
)
def test_file_that_is_no_whole_picture_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadablePictureError, match=reason):
        decode(content, (32, 32, 3))


def test_formats_that_only_pillow_knows_are_read() -> None:
    pixels = decode(encoded(gradient(), "PPM"), (32, 32, 3))
    assert np.array_equal(pixels, decode(encoded(gradient(), "PNG"), (32, 32, 3)))
