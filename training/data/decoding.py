"""Decode one picture to the pixels that the service would give the model; `cifar10_serving.pixels` has the rules.

The service reads files of strangers and limits what a decoder may do. Here the files are the user's own, so Pillow
opens whatever format it knows, and HEIC if pillow-heif is installed.
"""

import warnings
from functools import cache
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from cifar10_serving.artifacts.metadata import InputShape
from cifar10_serving.pixels import UPRIGHT, draft_side, orientation, to_pixels

RULES: Final = 2
"""Number of these rules, part of a cache's name: raise it with any change of the pixels."""
TIFF_BITS: Final = 258
TIFF_PHOTOMETRIC: Final = 262
TIFF_ORIENTATION: Final = 274
WHITE_IS_ZERO: Final = 0
DEEP_GREY_BITS: Final = 16


class UnreadablePictureError(ValueError):
    """Raised for a file that can't be decoded; the message says why, in a few words."""


def decode(content: bytes, shape: InputShape) -> NDArray[np.uint8]:
    """Return the pixels (height, width, 3) uint8 RGB 0..255 of a picture file.

    Raises:
        UnreadablePictureError: it is no picture, or it is damaged.
    """
    _register_heif()
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            image = Image.open(BytesIO(content))
        if image.format == "JPEG":
            side = draft_side(shape)
            image.draft(None, (side, side))
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            turned = image.tag_v2.get(TIFF_ORIENTATION, UPRIGHT)
            image.getexif()[TIFF_ORIENTATION] = UPRIGHT  # Pillow would turn the large picture
            image.load()
            return to_pixels(
                image.copy(),  # whose size is that of the pixels; Pillow's image already has that of the turned ones
                shape,
                orientation=turned,
                grey_bits=max(8, image.tag_v2.get(TIFF_BITS, (DEEP_GREY_BITS,))[0]),
                is_inverted=image.tag_v2.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO,
            )
        image.load()
        return to_pixels(image, shape, orientation=_orientation(image))
    except Exception as error:  # noqa: BLE001  # Pillow raises whatever it meets in a damaged file
        raise UnreadablePictureError(_reason(error)) from None


def _orientation(image: Image.Image) -> int:
    if image.format == "HEIF":  # pillow-heif has applied it
        return UPRIGHT
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    return orientation(image.info.get("exif", b""), xmp.encode() if isinstance(xmp, str) else xmp)


@cache
def _register_heif() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return
    register_heif_opener(thumbnails=False)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture in a known format"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than Pillow opens"
    text = str(error).splitlines()
    return text[0] if text else type(error).__name__
