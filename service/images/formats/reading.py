"""Reading the structure of an image file of any format, which its first bytes determine, and checking the limits."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from service.errors import TooLargeError, UndecodableError
from service.images.formats import bmp, gif, heif, jpeg, png, tiff, webp
from service.images.formats.heif import brands
from service.images.formats.image_file import READABLE_FORMATS, ImageFile, damaged

SIGNATURES: Final = (
    (b"%PDF-", "a PDF document"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"II\xbc", "a JPEG XR image"),
    (b"8BPS", "a Photoshop document (PSD)"),
    (b"\0\0\1\0", "a Windows icon (ICO)"),
    (b"\0\0\2\0", "a Windows cursor"),
    (b"FUJIFILMCCD-RAW", "a camera's raw photo (RAF)"),
    (b"IIRO", "a camera's raw photo (ORF)"),
    (b"IIRS", "a camera's raw photo (ORF)"),
    (b"IIU\0", "a camera's raw photo (RW2)"),
    (b"FOVb", "a camera's raw photo (X3F)"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"DDS ", "a DirectDraw texture (DDS)"),
    (b"qoif", "a QOI image"),
    (b"gimp xcf", "a GIMP document (XCF)"),
    (b"BPG\xfb", "a BPG image"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"\0\0\1\xba", "an MPEG video"),
    (b"PK\3\4", "a zip archive or an Office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"%!PS", "a PostScript document"),
    (b"ID3", "an MP3 sound"),
    (b"OggS", "an Ogg sound or video"),
    (b"fLaC", "a FLAC sound"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a Windows program"),
)
OF_BOXES: Final = {
    b"crx ": "a camera's raw photo (CR3)",
    b"qt  ": "a QuickTime video",
    b"mif1": "a HEIF file without a HEIC or AVIF image",
    b"msf1": "a HEIF file without a HEIC or AVIF image",
    b"miaf": "a HEIF file without a HEIC or AVIF image",
    b"jp2 ": "a JPEG 2000 image",
    b"M4A ": "an MPEG-4 sound",
}
OF_RIFF: Final = {b"AVI ": "an AVI video", b"WAVE": "a WAV sound"}
NETPBM: Final = re.compile(rb"P[1-7][\s#]")
PREFIX_BYTES: Final = 1024
"""Length of the prefix of a text that is searched for its first element."""
OF_ELEMENTS: Final = (
    (re.compile(rb"<svg[\s>/:]"), "an SVG drawing"),
    (re.compile(rb"<!doctype html|<html[\s>]"), "an HTML page"),
    (re.compile(rb"<\?xml|<[a-z]+[\s>]"), "XML"),
)
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
"""Media types that clients send: the registered one first, then the names that curl, browsers, phones, Java and the
registries of Windows and Citrix use."""
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


def kind_of(content: bytes) -> str | None:
    """Return a file's type in words, with an article; None if its first bytes don't determine it."""
    for signature, name in SIGNATURES:
        if content.startswith(signature):
            return name
    if content[8:10] == b"CR" and content[:2] == b"II":
        return "a camera's raw photo (CR2)"
    if content[:4] == b"RIFF":
        return OF_RIFF.get(content[8:12])
    if found := brands(content):
        return next((name for brand, name in OF_BOXES.items() if brand in found), "an MPEG-4 video")
    if NETPBM.match(content):
        return "a Netpbm image (PBM, PGM, PPM)"
    return _kind_of_text(content[:PREFIX_BYTES])


def _kind_of_text(prefix: bytes) -> str | None:
    text = prefix.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<"):
        return next((name for pattern, name in OF_ELEMENTS if pattern.search(text)), None)
    if text.startswith((b"{", b"[")):
        return "JSON"
    if text.startswith(b"data:image/"):
        return "a data: address (the image is the part after the comma, decoded from base64)"
    if text.startswith((b"ivborw0kggo", b"/9j/", b"r0lgod", b"uklgr")):
        return "base64 (decode it first)"
    return None


def read_image_file(content: bytes, *, max_pixels: int, draft_side: int) -> ImageFile:
    """Read the structure of an image file.

    Args:
        content: the file.
        max_pixels: maximum width times height.
        draft_side: a JPEG is decoded at 1/2 to 1/8 size as long as both sides keep this many pixels.

    Raises:
        UndecodableError: it is not an image of `READABLE_FORMATS`, or it is damaged.
        TooLargeError: it has more pixels than `max_pixels`, or more parts than any program writes.
    """
    if content.startswith(jpeg.SIGNATURE):
        file: ImageFile | None = jpeg.read_jpeg(content, draft_side=draft_side)
    elif kind := heif.heif_format(content):
        file = heif.read_heif(content, kind)
    else:
        file = next((read(content) for is_format, read in READERS if is_format(content)), None)
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
            remedy="send a smaller image: the models scale images down",
        )


def _not_an_image(content: bytes) -> UndecodableError:
    kind = kind_of(content)
    return UndecodableError(
        f"the {len(content):,} bytes are {kind}, which is not supported"
        if kind
        else f"the {len(content):,} bytes are not a supported image",
        expected=f"an image: {', '.join(READABLE_FORMATS)}",
        remedy="check that the file is complete and in one of these formats",
    )
