"""From a decoded image to the pixels that a version takes: the rules that training and serving share.

Grey, palette and CMYK become RGB, the upper 8 of 16 bits remain, the largest central part with the shape of the input
is resized with antialiased bicubic interpolation, transparency is put over white, and the EXIF orientation is applied.
docs/images.md describes them. `service.images` reads files of strangers, with limits; `training.data.decoding` reads
files of the user. Needs Pillow and NumPy.
"""

import re
import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar10_serving.artifacts.metadata import InputShape

JPEG_MIN_SCALE: Final = 2
"""The least reduction that libjpeg makes while it decodes; the others are 4 and 8."""
BAND_PIXELS: Final = 2**18
TRANSPOSITIONS: Final[dict[int, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
UPRIGHT: Final = 1
"""The EXIF orientation of an upright image."""
ON_ITS_SIDE: Final = 5
"""The first EXIF orientation that swaps rows and columns."""

EXIF_HEADER: Final = b"Exif\0\0"
ORIENTATION_TAG: Final = 0x0112
BYTE_ORDERS: Final = {b"II*\0": "<", b"MM\0*": ">", b"II\0*": "<", b"MM*\0": ">"}
"""Keyed by a block's first bytes. The last two are wrong, but some programs write them; all others are damaged."""
WHOLE_NUMBERS: Final = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}
"""TIFF's types of a single integer. https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, section 2"""
IFD_OFFSET: Final = 4
TIFF_HEADER_BYTES: Final = 8
IN_XMP: Final = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def draft_side(shape: InputShape) -> int:
    """Return the side in pixels that a JPEG keeps at least when it is decoded at 1/2, 1/4 or 1/8 of its size.

    It is the input's longer side, so nothing is enlarged afterwards. The pixels of photographs differ by 0.2 to 0.6 of
    255 on average from those of decoding at full size, which takes two to three times as long
    (`python -m scripts.compare_libraries jpeg`).
    """
    height, width, _ = shape
    return max(height, width)


def to_pixels(
    image: Image.Image, shape: InputShape, *, orientation: int = UPRIGHT, grey_bits: int = 16, is_inverted: bool = False
) -> NDArray[np.uint8]:
    """Return the pixels (height, width, 3) uint8 RGB 0..255 of a decoded image.

    Args:
        image: as Pillow decoded it; this function may drop the last reference to it.
        shape: height, width and channels of the result.
        orientation: EXIF's number, 1 to 8; anything else means upright.
        grey_bits: bits per pixel of grey images with more than 8.
        is_inverted: whether the largest value of such grey is black.
    """
    height, width, _ = shape
    # Each step frees the result of the step before.
    colours = _colours(image, grey_bits, is_inverted=is_inverted)
    del image
    middle = _resized_middle(colours, (height, width) if orientation >= ON_ITS_SIDE else (width, height))
    # Rotating the small picture needs no copy of the large one; the crop moves by one of its pixels at most.
    transposition = TRANSPOSITIONS.get(orientation)
    return np.asarray(middle if transposition is None else middle.transpose(transposition), np.uint8)


def orientation(exif: bytes | memoryview = b"", xmp: bytes | memoryview = b"") -> int:
    """Return the orientation, 1 to 8, in these blocks; EXIF's takes precedence, and without any it is 1."""
    of_exif = exif_orientation(exif)
    if of_exif is not None:
        return of_exif
    match = IN_XMP.search(xmp)
    return int(match[1]) if match else UPRIGHT


def exif_orientation(block: bytes | memoryview) -> int | None:
    """Return the orientation in an EXIF block, with or without its header, or None.

    It reads one tag and copies nothing. Pillow would read every other tag, too: a tag may claim the whole block as its
    value, so that 64 KB of EXIF with 5,000 tags become 300 MB, and a damaged tag hides the orientation.
    """
    while bytes(block[: len(EXIF_HEADER)]) == EXIF_HEADER:
        block = block[len(EXIF_HEADER) :]
    order = BYTE_ORDERS.get(bytes(block[:4]))
    if order is None or len(block) < TIFF_HEADER_BYTES:
        return None
    (start,) = struct.unpack_from(order + "L", block, IFD_OFFSET)
    if start + 2 > len(block):
        return None
    (count,) = struct.unpack_from(order + "H", block, start)
    entries = block[start + 2 : start + 2 + 12 * count]
    found = None
    for tag, kind, values, value in struct.iter_unpack(order + "HHL4s", entries[: len(entries) // 12 * 12]):
        if tag == ORIENTATION_TAG and values == 1 and kind in WHOLE_NUMBERS:
            (found,) = struct.unpack_from(order + WHOLE_NUMBERS[kind], value)
    return found


def _colours(image: Image.Image, grey_bits: int, *, is_inverted: bool) -> Image.Image:
    """Return the image in a mode that can be resized: grey, RGB, or with transparency.

    It copies only if necessary, since a copy is as large as the image; grey may become RGB after resizing.
    """
    if image.mode.startswith("I"):
        return _upper_bits(image, grey_bits, is_inverted=is_inverted)
    if image.has_transparency_data:
        return image if image.mode in {"LA", "RGBA"} else image.convert("RGBA")
    if image.mode in {"L", "RGB"}:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _upper_bits(image: Image.Image, grey_bits: int, *, is_inverted: bool) -> Image.Image:
    """Return the upper 8 of 16 (or 12) bits as grey, one band of rows after another."""
    transparent = image.info.get("transparency")
    grey = Image.new("L", image.size)
    rows = max(1, BAND_PIXELS // image.width)
    for row in range(0, image.height, rows):
        values = np.asarray(image.crop((0, row, image.width, min(row + rows, image.height))))
        upper_bits = (values >> (grey_bits - 8)).clip(0, 255).astype(np.uint8)
        if is_inverted:
            upper_bits ^= 255
        if isinstance(transparent, int):
            upper_bits[values == transparent] = 255
        grey.paste(Image.fromarray(upper_bits), (0, row))
    return grey


def _resized_middle(colours: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the largest central part with the shape of `size` (width, height), resized to it, over white."""
    width = min(colours.width, max(1, colours.height * size[0] // size[1]))
    height = min(colours.height, max(1, colours.width * size[1] // size[0]))
    left, top = (colours.width - width) // 2, (colours.height - height) // 2
    middle = colours.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    if middle.mode in {"LA", "RGBA"}:
        # Pillow weights colours by alpha when it resizes, so this gives the same result with fewer pixels.
        middle = Image.alpha_composite(Image.new("RGBA", middle.size, "white"), middle.convert("RGBA"))
    return middle.convert("RGB")
