"""Structure of an image file, read from end to end without decoding anything.

Decoders take seconds or gigabytes for the metadata of a small file: Pillow joins EXIF segments quadratically,
keeps each PNG chunk, decompresses texts, and steps through each block of a GIF in Python. So each format's module
reads the structure once, in linear time and with limits, and hands on a file that holds the first frame's pixels alone.
"""

from dataclasses import dataclass
from typing import Final

from service.errors import TooLargeError, UndecodableError

READABLE_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "HEIC", "AVIF")
"""Common names of the formats."""
UPRIGHT: Final = 1
"""The EXIF orientation of an image that is not to be turned."""
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image file.

    Args:
        format: its name in Pillow.
        content: a file of this format with the first frame's pixels, and no metadata.
        width, height: in pixels, before it is turned upright.
        decode_bytes: the most memory that a decoder takes for it, the decoded image included.
        orientation: as EXIF counts, 1 to 8; anything else is taken for upright.
        endings: where the file's end is missing, what it may go on with; its pixels are whole if they are the same with
            each.
        grey_bits: of each pixel, where it is grey and has more than 8.
        is_inverted: tells that the greatest of such greys is black; others are inverted as they are decoded.
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
    """Return the error of a file that can't be decoded."""
    return UndecodableError(
        f"the image can't be decoded: {problem}",
        expected=f"a complete file in one of the formats {', '.join(READABLE_FORMATS)}",
        remedy="the file is truncated or damaged: open it and save it again",
    )


def too_many(kind: str, parts: str, most: int) -> TooLargeError:
    """Return the error of a file in more parts than any program writes, each of which takes time."""
    return TooLargeError(
        f"the {kind} has more than {most:,} {parts}",
        expected=f"at most {most:,}",
        remedy="open it and save it again, as a JPEG or PNG",
    )
