"""Conversion of a caller's images to the bytes to send: files unchanged, pixels as PNG.

Pillow and numpy are never imported here: a caller with one of their objects has imported them.
"""

import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias, cast

from cifar10_serving.client._errors import ImageSourceError
from cifar10_serving.client._pillow_images import encode_png, png_of_pillow_image
from cifar10_serving.text import printable

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
"""The upper limit of the setting `max_body_bytes`; larger files would only fill the memory."""
READ_BYTES: Final = 2**20
QUICK_BYTES: Final = 2**14
"""The pixels of a thumbnail such as CIFAR-10's."""
SHOWN_CHARACTERS: Final = 200
"""Length to which errors shorten a path; a data URI that was taken for a path has millions of characters."""
PNG: Final = "image/png"
UNKNOWN_TYPE: Final = "application/octet-stream"
"""The service then detects the type itself."""
SIGNATURE_BYTES: Final = 64
"""Number of leading bytes of a file that `image_type` needs."""
SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),
    (b"MM\0+", "image/tiff"),
)
BRANDS: Final[Mapping[bytes, str]] = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"hevc": "image/heic",
    b"hevx": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
}
"""The brands of pictures in the first box of an ISO media file (ISO/IEC 23008-12); MP4 and MOV have others."""
BMP_HEADER_BYTES: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An encoded image: its bytes, their type, and an optional name."""

    content: bytes
    content_type: str
    name: str | None


def encode_image(image: "ImageSource | EncodedImage") -> EncodedImage:
    """Read or encode an image; return an encoded one unchanged.

    Raises:
        ImageSourceError: it can't be read, or is not an image.
    """
    if isinstance(image, EncodedImage):
        return image
    name = name_of(image)
    if isinstance(image, str | os.PathLike):
        return _encoded(_read_path(Path(os.fsdecode(image))), name)
    if isinstance(image, bytes | bytearray | memoryview):
        return _encoded(_bytes_of(image), name)
    if _is_pillow_image(image):
        return EncodedImage(png_of_pillow_image(cast("Image", image)), PNG, name)
    if _is_array(image):
        return EncodedImage(_png_of_array(image), PNG, name)
    if hasattr(image, "read"):
        return _encoded(_read_file(image), name)
    raise ImageSourceError(f"an object of type {type(image).__name__} is not an image", expected=EXPECTED)


def may_change(image: object) -> bool:
    """Return whether the caller may change or close an image after passing it: all but paths and bytes."""
    return not isinstance(image, str | os.PathLike | bytes | EncodedImage)


def is_quick(image: object) -> bool:
    """Return whether encoding an image takes less time than handing it to a thread."""
    return isinstance(image, bytes | bytearray | memoryview) or (_is_array(image) and image.nbytes <= QUICK_BYTES)  # type: ignore[attr-defined]  # arrays have it


def name_of(image: object) -> str | None:
    """Return a path as text, or an open file's name, or None."""
    if isinstance(image, EncodedImage):
        return image.name
    if isinstance(image, str | os.PathLike):
        return os.fsdecode(image)
    name = getattr(image, "name", None)
    return name if isinstance(name, str) else None


def image_type(content: bytes) -> str | None:
    """Return the type of an image file from its first `SIGNATURE_BYTES`; None if it is not a supported image."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    if content[:2] == b"BM" and int.from_bytes(content[14:18], "little") in BMP_HEADER_BYTES:
        return "image/bmp"
    if content[4:8] == b"ftyp":
        return _iso_media_type(content)
    return next((kind for signature, kind in SIGNATURES if content.startswith(signature)), None)


def _iso_media_type(content: bytes) -> str | None:
    """Return the type for the main brand, or for the first specific one if the main brand is generic."""
    box = content[8 : min(int.from_bytes(content[:4]), SIGNATURE_BYTES)]
    brands = [box[:4], *(box[at : at + 4] for at in range(8, len(box), 4))]
    kinds = [BRANDS[brand] for brand in brands if brand in BRANDS]
    if not kinds or brands[0] not in BRANDS:
        return None
    return next((kind for kind in kinds if kind != "image/heif"), kinds[0])


def truncated_repr(text: object) -> str:
    """Return a caller's text for an error: one short printable line."""
    whole = str(text)
    return printable(whole[:SHOWN_CHARACTERS]) + ("…" if len(whole) > SHOWN_CHARACTERS else "")


def _encoded(content: bytes, name: str | None) -> EncodedImage:
    if not content:
        raise ImageSourceError(
            f"{truncated_repr(name) if name else 'the image'} is empty: 0 bytes", expected="an image file"
        )
    return EncodedImage(content, image_type(content[:SIGNATURE_BYTES]) or UNKNOWN_TYPE, name)


def _bytes_of(content: bytes | bytearray | memoryview) -> bytes:
    try:
        found = bytes(content)
    except ValueError as error:  # a released memoryview
        raise ImageSourceError(f"the bytes can't be read: {error}") from error
    _check_size(found, "the image")
    return found


def _read_path(path: Path) -> bytes:
    try:
        status = path.stat()  # before it is opened: opening a device may have side effects
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise ImageSourceError(f"{truncated_repr(path)} is a device or a socket", expected="a file")
        if stat.S_ISREG(status.st_mode) and status.st_size > MAX_FILE_BYTES:
            raise _too_large(path)
        with path.open("rb") as stream:
            return read_all(stream, path)
    except FileNotFoundError:
        raise ImageSourceError(f"there is no file {truncated_repr(path)}") from None
    except IsADirectoryError:
        raise ImageSourceError(
            f"{truncated_repr(path)} is a folder",
            expected="a file",
            remedy="pass its files to predict_many, or the folder to `cifar10 predict`",
        ) from None
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        words = getattr(error, "strerror", None) or error
        raise ImageSourceError(f"{truncated_repr(path)} can't be read: {words}") from error


def read_all(stream: Any, what: object) -> bytes:
    """Read a stream to its end, up to the size that any service accepts.

    Raises:
        ImageSourceError: it has more, or does not return bytes.
        Exception: raised by the stream.
    """
    content = bytearray()
    try:
        while part := stream.read(min(READ_BYTES + len(content), MAX_FILE_BYTES + 1 - len(content))):
            if not isinstance(part, bytes | bytearray | memoryview):
                raise _not_bytes(part)
            content += part
            _check_size(content, what)
        if part is None:
            raise BlockingIOError("it has no data yet")
        return bytes(content)
    except MemoryError:
        raise ImageSourceError(f"there is not enough memory to read {truncated_repr(what)}") from None


def _not_bytes(part: Any) -> ImageSourceError:
    if isinstance(part, str):
        return ImageSourceError("the file was opened as text", expected="a file opened with 'rb'")
    if hasattr(part, "close"):
        part.close()  # a coroutine, which would warn that it was never awaited
    return ImageSourceError(f"the file's read() returns a {type(part).__name__}", expected="a file opened with 'rb'")


def _read_file(file: Any) -> bytes:
    try:
        content = read_all(file, name_of(file) or "the open file")
    except ImageSourceError:
        raise
    except Exception as error:  # an archive's member or a response may raise anything
        raise ImageSourceError(
            f"the open file can't be read: {truncated_repr(error) or type(error).__name__}"
        ) from error
    if not content:
        name = name_of(file)
        raise ImageSourceError(
            f"{truncated_repr(name) if name else 'the open file'} is empty, or was read to its end: 0 bytes",
            expected="an image file",
            remedy="call file.seek(0) if it was read before",
        )
    return content


def _check_size(content: bytes | bytearray, what: object) -> None:
    if len(content) > MAX_FILE_BYTES:
        raise _too_large(what)


def _too_large(what: object) -> ImageSourceError:
    return ImageSourceError(
        f"{truncated_repr(what)} has more than {MAX_FILE_BYTES:,} bytes, more than any service accepts"
    )


def _is_pillow_image(image: object) -> bool:
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def _is_array(image: object) -> bool:
    module = sys.modules.get("numpy")
    return module is not None and isinstance(image, module.ndarray)


def _png_of_array(array: Any) -> bytes:
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0 or array.dtype != "uint8":  # noqa: PLR2004
        raise ImageSourceError(
            f"the array is {tuple(array.shape)} {array.dtype}",
            expected="(height, width, 3) uint8, RGB 0..255",
            remedy=_array_remedy(array),
        )
    if getattr(array, "mask", None) is not None and array.mask.any():
        raise ImageSourceError(
            "the array is masked: some pixels have no value", remedy="use array.filled(255) for white"
        )
    height, width, _ = array.shape
    return encode_png(array.tobytes(), height=height, width=width)


def _array_remedy(array: Any) -> str:
    remedy = ""
    if array.size == 0:
        return remedy
    match array.dtype.kind, array.shape:
        case _, (_, _, _, _):
            remedy = "pass a batch of images to predict_many or predict_batch as single images"
        case (("f" | "b"), _):
            remedy = "use (array * 255).round().astype('uint8') if 1 is white, array.astype('uint8') if 255 is"
        case (("i" | "u"), _) if array.dtype != "uint8":
            remedy = "use array.astype('uint8') if 255 is white, (array >> 8).astype('uint8') if 65535 is"
        case _, ((_, _) | (_, _, 2 | 4)):
            remedy = "use PIL.Image.fromarray(array), which may be grey or have transparency"
        case _, (_, _, 1):
            remedy = "use PIL.Image.fromarray(array[:, :, 0]), which may be grey"
        case _, (3, _, _):
            remedy = "use array.transpose(1, 2, 0) if the channels come first"
    return remedy
