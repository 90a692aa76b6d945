"""From an uploaded file to the (height, width, 3) uint8 RGB pixels that a version takes, with all limits.

The rules are the same for every format (docs/images.md): first frame; upper 8 bits of 16-bit channels; grey, palette
and CMYK to RGB; the central square (for a version that takes no squares: the largest central part of its shape),
resized to the version's size with antialiased bicubic interpolation; transparency over white; rotated by the EXIF
orientation. An RGB image of the version's own size passes unchanged.
"""

from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from cifar10_serving.artifacts.metadata import InputShape
from cifar10_serving.pixels import JPEG_MIN_SCALE, UPRIGHT, draft_side, exif_orientation, to_pixels
from service.errors import RequestError, out_of_memory
from service.images.formats.image_file import READABLE_FORMATS, damaged
from service.images.formats.image_file import ImageFile as ReadFile
from service.images.formats.jpeg import SMALL_PIXELS
from service.images.formats.reading import READABLE_TYPES, check_pixels, read_image_file

__all__ = ["READABLE_FORMATS", "READABLE_TYPES", "EncodedImage", "encode_png"]

SIMPLEJPEG_COLOURS: Final = frozenset({"YCbCr", "RGB", "Gray"})
"""Colour spaces that simplejpeg and Pillow decode to the same pixels; they differ for CMYK."""
SLOW_FORMATS: Final = frozenset({"TIFF", "HEIF", "AVIF"})
"""Formats whose decoders take milliseconds for the smallest image."""

Image.MAX_IMAGE_PIXELS = None  # max_pixels is checked before anything is decoded


class EncodedImage:
    """An uploaded file whose structure and size were checked; nothing is decoded yet.

    Args:
        content: the file.
        shape: height, width and channels of the result.
        max_pixels: maximum width times height.

    Raises:
        UndecodableError: it is not an image of `READABLE_FORMATS`, or its structure is damaged.
        TooLargeError: it has more pixels than `max_pixels`, or more parts than any program writes.
    """

    def __init__(self, content: bytes, shape: InputShape, *, max_pixels: int) -> None:
        self._shape = shape
        self._draft_side = draft_side(shape)
        self._file = read_image_file(content, max_pixels=max_pixels, draft_side=self._draft_side)
        self._orientation = self._file.orientation
        self._max_pixels = max_pixels
        self.pixels = self._file.pixels
        """Width times height."""
        self.decode_bytes = self._file.decode_bytes
        """The maximum memory that `decode` uses."""
        self.is_slow = self._file.format in SLOW_FORMATS
        """True if even a small image takes milliseconds to decode."""

    def decode(self) -> NDArray[np.uint8]:
        """Return the pixels (height, width, 3) uint8 RGB 0..255, by the rules of this module.

        Raises:
            UndecodableError: the file is truncated or damaged.
            UnavailableError: there is not enough memory.
        """
        try:
            return to_pixels(
                self._load_whole(),
                self._shape,
                orientation=self._orientation,
                grey_bits=self._file.grey_bits,
                is_inverted=self._file.is_inverted,
            )
        except RequestError:
            raise
        except UnidentifiedImageError:  # its text has no cause, only a memory address
            raise damaged("its header is damaged or not supported") from None
        except Exception as error:  # noqa: BLE001  # Pillow raises whatever it meets in a damaged file
            if _is_out_of_memory(error, self.decode_bytes):
                raise out_of_memory() from None
            raise damaged(str(error)) from None

    def _load_whole(self) -> Image.Image:
        ending, *others = self._file.endings
        counts = [self._load(other).histogram() for other in others]
        image = self._load(ending)
        if counts and counts != [image.histogram()] * len(counts):
            raise damaged("it is truncated")
        return image

    def _load(self, ending: bytes) -> Image.Image:
        if self._file.format == "JPEG" and self._file.pixels <= SMALL_PIXELS and not ending and not self._is_reduced():
            small = _small_jpeg(self._file)
            if small is not None:
                return small
        image = _open(self._file, ending)
        check_pixels(*image.size, self._max_pixels)
        if self._file.format == "JPEG":
            image.draft(None, (self._draft_side, self._draft_side))
        if self._file.format == "AVIF":  # Pillow does not apply it, but returns the boxes' orientation as EXIF
            self._orientation = exif_orientation(image.info.get("exif", b"")) or UPRIGHT
        image.load()
        return image

    def _is_reduced(self) -> bool:
        """Return whether libjpeg reduces a JPEG while it decodes."""
        return min(self._file.width, self._file.height) >= JPEG_MIN_SCALE * self._draft_side


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Return pixels (height, width, 3) uint8 RGB as a PNG, losslessly."""
    stream = BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def _small_jpeg(file: ReadFile) -> Image.Image | None:
    """Decode a small JPEG with simplejpeg, to the same pixels as Pillow in less time; None leaves it to Pillow.

    For larger ones there is no difference: libjpeg takes most of the time, and Pillow would copy the pixels to resize
    them. `python -m scripts.compare_libraries jpeg` measures both.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(file.content)
        if colours not in SIMPLEJPEG_COLOURS or (width, height) != (file.width, file.height):
            return None
        return Image.fromarray(simplejpeg.decode_jpeg(file.content, strict=True))
    except ValueError:  # damaged: Pillow reports how, or decodes what it can
        return None


def _open(file: ReadFile, ending: bytes) -> Image.Image:
    stream = BytesIO(file.content + ending if ending else file.content)
    if file.format == "HEIF":
        return _heif_opener()(stream)
    image = Image.open(stream, formats=(file.format,))
    if isinstance(image, ImageFile.ImageFile) and len(image.tile) == 1:
        # Read at once: a decoder that needs more than one block starts again from the first each time.
        image.decodermaxblock = len(file.content) + len(ending) + 1
    return image


@cache
def _heif_opener() -> Callable[[BytesIO], Image.Image]:
    """Return the class that opens HEIC; imported on demand, because it loads 26 MB of libraries."""
    from pillow_heif import HeifImageFile, options

    # Decode only the picture; a thumbnail instead would have other pixels.
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    options.DECODE_THREADS = 1
    opener: Callable[[BytesIO], Image.Image] = HeifImageFile
    return opener


def _is_out_of_memory(error: Exception, needed_bytes: int) -> bool:
    """Return whether a decoder failed for lack of memory; many only report a damaged file."""
    if isinstance(error, MemoryError):
        return True
    try:
        np.empty(needed_bytes, np.uint8)
    except MemoryError:
        return True
    return False
