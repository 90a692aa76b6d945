"""From whatever a caller holds to the bytes that are sent: files as they are, pixels as PNG.

Pillow and numpy are never imported here: who holds one of their objects has imported them.
"""

import os
import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias

from client._errors import ImageSourceError
from client._png import encode_png

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["ImageSource"]

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image | NDArray[uint8]"
"""A path, an encoded image's bytes or open file, a Pillow image, or an array (height, width, 3) uint8 RGB 0..255."""

EXPECTED: Final = (
    "a path, the bytes of an image file, a file opened with 'rb', a Pillow image, or an array (height, width, 3) uint8"
)
MAX_FILE_BYTES: Final = 2**30
"""No service takes more (`max_body_bytes` ends there); a larger file would only fill the memory."""
PNG: Final = "image/png"
UNKNOWN_TYPE: Final = "application/octet-stream"
"""The service then looks for itself, and says what it reads."""
SIGNATURES: Final = ((b"\x89PNG", PNG), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"), (b"BM", "image/bmp"))
PNG_MODES: Final = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """What is sent: an image file's bytes, their type, and a name where there is one."""

    content: bytes
    content_type: str
    name: str | None


def encode_image(image: ImageSource) -> EncodedImage:
    """Read or encode an image.

    Raises:
        ImageSourceError: it can't be read, or is no image.
    """
    name = name_of(image)
    if isinstance(image, str | os.PathLike):
        return _encoded(_read_path(Path(image)), name)
    if isinstance(image, bytes | bytearray | memoryview):
        return _encoded(bytes(image), name)
    if _is_pillow_image(image):
        return EncodedImage(_png_of_pillow_image(image), PNG, name)
    if _is_array(image):
        return EncodedImage(_png_of_array(image), PNG, name)
    if hasattr(image, "read"):
        return _encoded(_read_file(image), name)
    raise ImageSourceError(f"a {type(image).__name__} is no image", expected=EXPECTED)


def name_of(image: object) -> str | None:
    """A path as text, an open file's name, nothing for the rest."""
    if isinstance(image, str | os.PathLike):
        return str(image)
    name = getattr(image, "name", None)
    return name if isinstance(name, str) else None


def _encoded(content: bytes, name: str | None) -> EncodedImage:
    if not content:
        raise ImageSourceError(f"{name or 'the image'} is empty: 0 bytes", expected="an image file")
    return EncodedImage(content, _content_type(content), name)


def _content_type(content: bytes) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for signature, kind in SIGNATURES if content.startswith(signature)), UNKNOWN_TYPE)


def _read_path(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return _checked_size(stream.read(MAX_FILE_BYTES + 1), path)
    except FileNotFoundError:
        raise ImageSourceError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise ImageSourceError(
            f"{path} is a folder",
            expected="a file",
            remedy="give its files to predict_many, or the folder to `cifar10 predict`",
        ) from None
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        raise ImageSourceError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error


def _read_file(file: Any) -> bytes:
    try:
        content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # a closed file is a ValueError
        raise ImageSourceError(f"the open file can't be read: {error}") from error
    if not isinstance(content, bytes):
        raise ImageSourceError("the file was opened as text", expected="a file opened with 'rb'")
    return _checked_size(content, name_of(file) or "the open file")


def _checked_size(content: bytes, what: object) -> bytes:
    if len(content) > MAX_FILE_BYTES:
        raise ImageSourceError(f"{what} has more than {MAX_FILE_BYTES:,} bytes, more than any service takes")
    return content


def _is_pillow_image(image: object) -> bool:
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def _png_of_pillow_image(image: Any) -> bytes:
    stream = BytesIO()
    try:
        # With its Exif data, so that the service turns it upright as it would the file.
        exif = image.getexif()
        (image if image.mode in PNG_MODES else image.convert("RGB")).save(stream, "PNG", compress_level=1, exif=exif)
    except (OSError, ValueError) as error:  # a file behind it that is closed or broken
        raise ImageSourceError(f"the Pillow image can't be encoded: {error}") from error
    return stream.getvalue()


def _is_array(image: object) -> bool:
    module = sys.modules.get("numpy")
    return module is not None and isinstance(image, module.ndarray)


def _png_of_array(array: Any) -> bytes:
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0 or array.dtype != "uint8":  # noqa: PLR2004
        remedy = "give a batch of images to predict_many or predict_batch, one by one" if array.ndim == 4 else ""  # noqa: PLR2004
        raise ImageSourceError(
            f"the array is {tuple(array.shape)} {array.dtype}",
            expected="(height, width, 3) uint8, RGB 0..255",
            remedy=remedy,
        )
    height, width, _ = array.shape
    return encode_png(array.tobytes(), height=height, width=width)
