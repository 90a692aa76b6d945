"""The structure of an image file, read completely without decoding anything.

Decoders may take seconds or gigabytes for the metadata of a small file: Pillow joins EXIF segments quadratically, keeps
each PNG chunk, decompresses texts, and steps through each block of a GIF in Python. So the module of each format reads
the structure once, in linear time and with limits, and returns a file with nothing but the first frame's pixels.
"""

from dataclasses import dataclass
from typing import Final

from cifar10_serving.pixels import UPRIGHT
from service.errors import TooLargeError, UndecodableError

READABLE_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "HEIC", "AVIF")
"""Common names of the formats."""
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image file.

    Args:
        format: its name in Pillow.
        content: a file of this format with the first frame's pixels and no metadata.
        width, height: size in pixels, before rotation.
        decode_bytes: maximum memory that a decoder uses for it, including the decoded image.
        orientation: EXIF's number, 1 to 8; anything else means upright.
        endings: possible continuations of a file without an end; its pixels are complete if they are equal with each.
        grey_bits: bits per pixel of grey images with more than 8.
        is_inverted: whether the largest value of such grey is black; others are inverted by the decoder.
    """

    format: str
    content: bytes
    width: int
    height: int
    decode_bytes: int
    orientation: int = UPRIGHT
    endings: tuple[bytes, ...] = (b"",)
    grey_bits: int = 16
    is_inverted: bool = False

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def damaged(problem: str) -> UndecodableError:
    """Return the error for a file that can't be decoded."""
    return UndecodableError(
        f"the image can't be decoded: {problem}",
        expected=f"a complete file in one of the formats {', '.join(READABLE_FORMATS)}",
        remedy="the file is truncated or damaged: open it and save it again",
    )


def too_many(kind: str, parts: str, most: int) -> TooLargeError:
    """Return the error for a file with more parts than any program writes; each part takes time."""
    return TooLargeError(
        f"the {kind} has more than {most:,} {parts}",
        expected=f"at most {most:,}",
        remedy="open it and save it again, as a JPEG or PNG",
    )


def starts_with(block: bytes | memoryview, prefix: bytes) -> bool:
    """Return whether a block starts with these bytes."""
    return bytes(block[: len(prefix)]) == prefix
