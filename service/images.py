"""From an uploaded file to the (32, 32, 3) uint8 RGB pixels that a model takes, with every limit on the way.

The rule, the same for every format (docs/images.md): first frame; turned upright by its EXIF orientation;
16-bit channels by their upper 8 bits; transparency over white; grey, palette and CMYK to RGB; the central
square, resized to 32x32 by antialiased bicubic interpolation. A 32x32 RGB image is passed through unchanged.
"""

from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from catalog.labels import IMAGE_SHAPE
from service.errors import TooLargeError, UndecodableError

READABLE_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
READABLE_TYPES: Final = frozenset(
    {"image/png", "image/jpeg", "image/jpg", "image/pjpeg", "image/webp", "image/gif", "image/bmp", "image/x-ms-bmp"}
)
SIDE: Final = IMAGE_SHAPE[0]
JPEG_DRAFT_SIDE: Final = 4 * SIDE
"""libjpeg may decode at 1/2 to 1/8 size as long as both sides keep this many pixels: a phone's photo in a quarter
of the time, and the resize still averages over 4x4 pixels or more."""

Image.MAX_IMAGE_PIXELS = None  # max_pixels is checked before anything is decoded


class EncodedImage:
    """An uploaded file whose header was read and whose size was checked; nothing is decoded yet.

    Args:
        content: the file.
        max_pixels: greatest width times height.

    Raises:
        UndecodableError: not an image of `READABLE_FORMATS`.
        TooLargeError: more pixels than `max_pixels`.
    """

    def __init__(self, content: bytes, *, max_pixels: int) -> None:
        try:
            self._image = Image.open(BytesIO(content), formats=READABLE_FORMATS)
        except UnidentifiedImageError:
            raise UndecodableError(
                f"the {len(content):,} bytes are not an image that can be read",
                expected=f"{', '.join(READABLE_FORMATS)}",
                remedy="check that the file is whole and of one of these formats",
            ) from None
        except Exception as error:  # noqa: BLE001  # Pillow raises whatever it meets in a hostile header
            raise _undecodable(error) from None
        width, height = self._image.size
        self.pixels = width * height
        if self.pixels > max_pixels:
            raise TooLargeError(
                f"the image has {width:,} x {height:,} = {self.pixels:,} pixels",
                expected=f"at most {max_pixels:,} pixels",
                remedy="send a smaller picture: the models see 32x32 pixels",
            )

    def decode(self) -> NDArray[np.uint8]:
        """The pixels (32, 32, 3) uint8 RGB 0..255, by this module's rule.

        Raises:
            UndecodableError: the file is cut off or damaged.
        """
        try:
            return _to_model_input(self._image)
        except Exception as error:  # noqa: BLE001  # Pillow raises whatever it meets in a damaged file
            raise _undecodable(error) from None


def _to_model_input(image: Image.Image) -> NDArray[np.uint8]:
    image.draft(None, (JPEG_DRAFT_SIDE, JPEG_DRAFT_SIDE))
    upright = ImageOps.exif_transpose(image)
    rgb = _to_rgb(upright)
    side = min(rgb.size)
    left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
    square = rgb.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return np.asarray(square, np.uint8)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        upper_bits = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(upper_bits).convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return image.convert("RGB")


def _undecodable(error: Exception) -> UndecodableError:
    return UndecodableError(
        f"the image can't be decoded: {error}",
        expected=f"a whole file of one of {', '.join(READABLE_FORMATS)}",
        remedy="the file is cut off or damaged: open and save it again",
    )
