"""From an uploaded file to the (32, 32, 3) uint8 RGB pixels that a model takes, with every limit on the way.

The rule, the same for every format (docs/images.md): first frame; 16-bit channels by their upper 8 bits; grey,
palette and CMYK to RGB; the central square, resized to 32x32 by antialiased bicubic interpolation; transparency
over white; turned upright by the EXIF orientation. A 32x32 RGB image is passed through unchanged.
"""

from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from catalog.labels import IMAGE_SHAPE
from service.errors import TooLargeError, UndecodableError
from service.jpeg import count_scans

READABLE_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
READABLE_TYPES: Final = frozenset(
    {"image/png", "image/jpeg", "image/jpg", "image/pjpeg", "image/webp", "image/gif", "image/bmp", "image/x-ms-bmp"}
)
SIDE: Final = IMAGE_SHAPE[0]
JPEG_DRAFT_SIDE: Final = 4 * SIDE
"""libjpeg may decode at 1/2 to 1/8 size as long as both sides keep this many pixels: a phone's photo in a quarter
of the time, and the resize still averages over 4x4 pixels or more."""

EXIF_ORIENTATION: Final = 0x0112
ORIENTATION_SOURCES: Final = frozenset({"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"})
"""Where Pillow's `getexif` looks; without any of them it is a slow way to nothing."""
UPRIGHT: Final[dict[object, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MAX_JPEG_SCANS: Final = 32
"""A progressive JPEG has about ten scans. Each costs a pass over the whole image and may take a few bytes, so a small
file with thousands of them could hold a thread for minutes."""
MAX_JPEG_SEGMENTS: Final = 10_000
SCAN_MARKER: Final = b"\xff\xda"
JPEG_FORMATS: Final = ("JPEG", "MPO")

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
            raise _undecodable(str(error)) from None
        width, height = self._image.size
        self.pixels = width * height
        if self.pixels == 0:
            raise _undecodable(f"it has {width} x {height} pixels")
        if self.pixels > max_pixels:
            raise TooLargeError(
                f"the image has {width:,} x {height:,} = {self.pixels:,} pixels",
                expected=f"at most {max_pixels:,} pixels",
                remedy="send a smaller picture: the models see 32x32 pixels",
            )
        if self._image.format in JPEG_FORMATS:
            _check_scans(content)

    def decode(self) -> NDArray[np.uint8]:
        """The pixels (32, 32, 3) uint8 RGB 0..255, by this module's rule.

        Raises:
            UndecodableError: the file is cut off or damaged.
        """
        try:
            return _to_model_input(self._image)
        except Exception as error:  # noqa: BLE001  # Pillow raises whatever it meets in a damaged file
            raise _undecodable(str(error)) from None


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Pixels (height, width, 3) uint8 RGB as a PNG, which keeps each as it is."""
    stream = BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def _check_scans(content: bytes) -> None:
    if content.count(SCAN_MARKER) <= MAX_JPEG_SCANS and content.count(b"\xff") <= MAX_JPEG_SEGMENTS:
        return  # it can't have more than these
    scans = count_scans(content, most_segments=MAX_JPEG_SEGMENTS)
    if scans is None or scans > MAX_JPEG_SCANS:
        raise TooLargeError(
            f"the JPEG has more than {MAX_JPEG_SEGMENTS:,} segments"
            if scans is None
            else f"the JPEG has {scans:,} scans",
            expected=f"at most {MAX_JPEG_SCANS} scans",
            remedy="save it again as a JPEG or PNG",
        )


def _to_model_input(image: Image.Image) -> NDArray[np.uint8]:
    image.draft(None, (JPEG_DRAFT_SIDE, JPEG_DRAFT_SIDE))
    colours = _to_8_bit_colours(image)
    side = min(colours.size)
    left, top = (colours.width - side) // 2, (colours.height - side) // 2
    square = colours.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    if square.mode == "RGBA":
        # Pillow weighs colours by their alpha when it resizes, so that this is the same as before, on fewer pixels.
        square = Image.alpha_composite(Image.new("RGBA", square.size, "white"), square).convert("RGB")
    # Turning the small square needs no copy of the picture; the crop moves by a pixel of it at most.
    turn = UPRIGHT.get(_exif_orientation(image))
    return np.asarray(square.transpose(turn) if turn is not None else square, np.uint8)


def _exif_orientation(image: Image.Image) -> object:
    if not ORIENTATION_SOURCES & image.info.keys():
        return None
    try:
        return image.getexif().get(EXIF_ORIENTATION)
    except Exception:  # noqa: BLE001  # a damaged EXIF block is no reason to refuse whole pixels
        return None


def _to_8_bit_colours(image: Image.Image) -> Image.Image:
    """The image as RGB, or RGBA where something in it is transparent."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        upper_bits = (values >> 8).clip(0, 255).astype(np.uint8)
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            upper_bits[values == transparent] = 255
        return Image.fromarray(upper_bits).convert("RGB")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _undecodable(problem: str) -> UndecodableError:
    return UndecodableError(
        f"the image can't be decoded: {problem}",
        expected=f"a whole file of one of {', '.join(READABLE_FORMATS)}",
        remedy="the file is cut off or damaged: open and save it again",
    )
