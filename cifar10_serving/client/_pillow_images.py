"""Pillow images and arrays as PNG files, in every mode of Pillow."""

import math
import struct
import sys
import zlib
from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, cast

from cifar10_serving.client._errors import ImageSourceError

if TYPE_CHECKING:
    from PIL.Image import Image

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
RGB_8_BITS: Final = b"\x08\x02\x00\x00\x00"
"""Bits per sample, colour type, and the only standard methods of compression, filter and interlace."""
NO_FILTER: Final = b"\x00"
FAST: Final = 1
GREATEST_16_BIT: Final = 65535
GREATEST_8_BIT: Final = 255
EXIF_ORIENTATION: Final = 0x0112
TURNED: Final = frozenset(range(2, 9))
"""The orientations that are not upright."""
AS_THEY_ARE: Final = frozenset({"1", "L", "LA", "RGB", "RGBA"})
WITHOUT_RGB: Final = {
    "LAB": "convert it with PIL.ImageCms: ImageCms.profileToProfile(image, lab, srgb, outputMode='RGB')"
}
"""Modes that Pillow can't convert, with a way to convert them."""
LOADING: Final = tuple(Lock() for _ in range(64))
"""Locks for reading files: Pillow reads an image's file when its pixels are first used, which two threads must not do
at the same time. Images share the locks by identity, so that different ones are decoded concurrently."""


def encode_png(pixels: bytes, *, height: int, width: int) -> bytes:
    """Return a PNG file of (height, width, 3) uint8 RGB pixels, given row by row."""
    row_bytes = 3 * width
    rows = b"".join(NO_FILTER + pixels[row * row_bytes : (row + 1) * row_bytes] for row in range(height))
    return b"".join(
        (
            SIGNATURE,
            _chunk(b"IHDR", struct.pack(">II", width, height) + RGB_8_BITS),
            _chunk(b"IDAT", zlib.compress(rows, FAST)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_pillow_image(image: "Image") -> bytes:
    """Encode an image of any mode as PNG, with its orientation and without its other metadata.

    Raises:
        ImageSourceError: the image's file is closed or damaged, or its values are not valid pixels.
    """
    try:
        return _png(image)
    except ImageSourceError:
        raise
    except MemoryError:
        raise ImageSourceError(
            f"there is not enough memory for a Pillow image of {image.width:,} x {image.height:,} pixels"
        ) from None
    except Exception as error:  # Pillow may raise anything for a closed, damaged or hostile file
        words = str(error) or type(error).__name__
        raise ImageSourceError(f"the Pillow image can't be encoded: {words}") from error


def _png(image: "Image") -> bytes:
    width, height = image.size
    if width == 0 or height == 0:
        raise ImageSourceError(f"the Pillow image has {width} x {height} pixels", expected="at least 1 x 1")
    with LOADING[id(image) // 16 % len(LOADING)]:
        image.load()
    # After the pixels: Pillow rotates a TIFF when it decodes it, and then drops its orientation.
    orientation = _orientation(image)
    options: dict[str, Any] = {"icc_profile": None}  # the service ignores profiles; a large one would cost bandwidth
    if orientation in TURNED:
        options["exif"] = _exif(orientation)
    stream = BytesIO()
    _as_png_holds_it(image).save(stream, "PNG", compress_level=1, **options)
    return stream.getvalue()


def _orientation(image: "Image") -> Any:
    try:
        return image.getexif().get(EXIF_ORIENTATION)
    except Exception:  # noqa: BLE001  # a damaged EXIF block is no reason to reject whole pixels
        return None


def _exif(orientation: int) -> bytes:
    from PIL.Image import Exif

    exif = Exif()
    exif[EXIF_ORIENTATION] = orientation
    return exif.tobytes()


def _as_png_holds_it(image: "Image") -> "Image":
    mode = image.mode
    if mode == "I" or mode.startswith("I;"):
        return _grey_of_16_bits(image)
    if mode == "F":
        return _grey_of_floats(image)
    if mode in WITHOUT_RGB:
        raise ImageSourceError(
            f"the Pillow image has mode {mode}, which Pillow can't convert to RGB",
            expected="a mode such as RGB, RGBA, L, LA, P or CMYK",
            remedy=WITHOUT_RGB[mode],
        )
    if mode in AS_THEY_ARE and "transparency" not in image.info:
        return image
    if mode == "La":  # premultiplied grey, which Pillow converts only to LA
        return image.convert("LA")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _grey_of_16_bits(image: "Image") -> "Image":
    """Return the image in the only 16-bit mode that Pillow writes directly: byte orders differ, and `I` has 32 bits."""
    if image.mode == "I;16":
        return image
    if image.mode == "I;16N":  # which Pillow before 13 converts to other values
        from PIL.Image import frombytes

        image = frombytes(f"I;16{'L' if sys.byteorder == 'little' else 'B'}", image.size, image.tobytes())
    grey = image.convert("I")
    if image.mode == "I":
        low, high = _extremes(grey)
        if low < 0 or high > GREATEST_16_BIT or 0 < high <= GREATEST_8_BIT:
            raise ImageSourceError(
                f"the Pillow image has mode I and values from {low} to {high}",
                expected=f"16-bit grey, 0 to {GREATEST_16_BIT}, of which the upper 8 bits count",
                remedy="convert it to L if 255 is white; otherwise scale it",
            )
    return grey.convert("I;16")


def _grey_of_floats(image: "Image") -> "Image":
    low, high = _extremes(image)
    # A sum reveals NaN, which the extremes hide: Pillow compares, and every comparison with NaN is false.
    finite = math.isfinite(sum(memoryview(image.tobytes()).cast("f")))
    if not finite or low < 0 or high > GREATEST_8_BIT or 0 < high <= 1:
        raise ImageSourceError(
            f"the Pillow image has mode F and values from {low:g} to {high:g}" + ("" if finite else ", not all finite"),
            expected=f"grey from 0 to {GREATEST_8_BIT}",
            remedy="multiply by 255 if 1 is white; otherwise scale it",
        )
    return image.convert("L")


def _extremes(image: "Image") -> tuple[float, float]:
    low, high = cast("tuple[float, float]", image.getextrema())  # of one channel
    return low, high
