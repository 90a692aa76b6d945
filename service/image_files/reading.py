"""Detection of a file's format by its first bytes, and reading by that format's module."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from service.errors import TooLargeError, UndecodableError
from service.image_files import bmp, gif, heif, jpeg, png, tiff, webp
from service.image_files.image_file import READABLE_FORMATS, ImageFile, damaged
from service.image_files.kinds import kind_of

MEDIA_TYPES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "PNG": ("image/png", "image/x-png", "image/apng", "image/vnd.mozilla.apng", "application/png"),
    "JPEG": ("image/jpeg", "image/jpg", "image/pjpeg", "image/x-jpeg", "image/x-jpg", "image/x-pjpeg", "image/pipeg",
        "image/jfif", "image/jpe", "image/mpo", "image/x-citrix-jpeg", "application/jpg"),
    "WEBP": ("image/webp", "image/x-webp"),
    "GIF": ("image/gif", "image/x-gif"),
    "BMP": ("image/bmp", "image/x-bmp", "image/x-ms-bmp", "image/ms-bmp", "image/x-windows-bmp", "image/x-win-bitmap",
        "image/dib", "image/x-dib", "image/x-ms-dib", "image/x-bitmap", "image/vnd.ms-bmp", "application/bmp"),
    "TIFF": ("image/tiff", "image/x-tiff", "image/tif", "image/x-tif", "image/tiff-fx", "application/tiff"),
    "HEIC": ("image/heic", "image/heif", "image/heic-sequence", "image/heif-sequence", "image/x-heic", "image/x-heif",
        "image/hif"),
    "AVIF": ("image/avif", "image/avif-sequence", "image/avis", "image/x-avif"),
})  # fmt: skip
"""Under which types clients send them: the registered one first, then what curl, browsers, phones, Java and the
registries of Windows and Citrix call it."""
DECLARED_TYPES: Final = frozenset({
    "image/png", "image/apng", "image/jpeg", "image/jpg", "image/pjpeg", "image/webp", "image/gif", "image/bmp",
    "image/tiff", "image/heic", "image/heif", "image/avif",
})  # fmt: skip
"""Media types that the API's description names."""
READERS: Final[tuple[tuple[Callable[[bytes], bool], Callable[[bytes], ImageFile]], ...]] = (
    (lambda content: content.startswith(png.SIGNATURE), png.read_png),
    (webp.is_webp, webp.read_webp),
    (lambda content: content.startswith(gif.SIGNATURES), gif.read_gif),
    (lambda content: content.startswith(tiff.SIGNATURES) and content[8:10] != b"CR", tiff.read_tiff),
    (lambda content: content.startswith(bmp.SIGNATURE), bmp.read_bmp),
)
READABLE_TYPES: Final = frozenset(kind for kinds in MEDIA_TYPES.values() for kind in kinds)


def read_image_file(content: bytes, *, max_pixels: int, draft_side: int) -> ImageFile:
    """Return what is known of an image file by its structure.

    Args:
        content: the file.
        max_pixels: greatest width times height.
        draft_side: a JPEG is decoded at 1/2 to 1/8 size as long as both sides keep so many pixels.

    Raises:
        UndecodableError: it is not an image of `READABLE_FORMATS`, or damaged.
        TooLargeError: more pixels than `max_pixels`, or in more parts than any program writes.
    """
    file = _read(content, draft_side)
    if file is None:
        raise _not_an_image(content)
    if file.pixels == 0:
        raise damaged(f"it has {file.width} x {file.height} pixels")
    check_pixels(file.width, file.height, max_pixels)
    return file


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise TooLargeError for an image with more pixels than `max_pixels`."""
    if width * height > max_pixels:
        raise TooLargeError(
            f"the image has {width:,} x {height:,} = {width * height:,} pixels",
            expected=f"at most {max_pixels:,} pixels",
            remedy="send a smaller image: the models use 32x32 pixels",
        )


def _read(content: bytes, draft_side: int) -> ImageFile | None:
    if content.startswith(jpeg.SIGNATURE):
        return jpeg.read_jpeg(content, draft_side=draft_side)
    if kind := heif.heif_format(content):
        return heif.read_heif(content, kind)
    return next((read(content) for is_format, read in READERS if is_format(content)), None)


def _not_an_image(content: bytes) -> UndecodableError:
    kind = kind_of(content)
    return UndecodableError(
        f"the {len(content):,} bytes are {kind}, which is not supported"
        if kind
        else f"the {len(content):,} bytes are not a supported image",
        expected=f"an image: {', '.join(READABLE_FORMATS)}",
        remedy="check that the file is complete and in one of these formats",
    )
