"""The content types that may carry an image, and instructions for sending one."""

from types import MappingProxyType
from typing import Final

from service.errors import UnsupportedTypeError
from service.images.encoded import READABLE_FORMATS, READABLE_TYPES

UNSPECIFIC_TYPES: Final = frozenset(
    {"", "application/octet-stream", "binary/octet-stream", "application/x-octet-stream", "image/*", "*/*"}
)
NAMES: Final = MappingProxyType({
    "image/svg+xml": "an SVG drawing",
    "application/pdf": "a PDF document",
    "image/jxl": "JPEG XL",
    "image/jp2": "JPEG 2000",
    "image/jpx": "JPEG 2000",
    "image/vnd.ms-photo": "JPEG XR",
    "image/jxr": "JPEG XR",
    "image/x-icon": "a Windows icon",
    "image/vnd.microsoft.icon": "a Windows icon",
    "image/vnd.adobe.photoshop": "a Photoshop document",
    "image/x-adobe-dng": "a camera's raw photo (DNG)",
    "image/x-canon-cr2": "a camera's raw photo (CR2)",
    "image/x-canon-cr3": "a camera's raw photo (CR3)",
    "image/x-nikon-nef": "a camera's raw photo (NEF)",
    "image/x-sony-arw": "a camera's raw photo (ARW)",
    "video/mp4": "an MPEG-4 video",
    "video/quicktime": "a QuickTime video",
    "text/html": "an HTML page",
    "application/zip": "a zip archive",
    "application/x-www-form-urlencoded": "the default of curl and of HTML forms",
})  # fmt: skip
"""Names of types that are sent instead of an image."""
WAYS: Final = (
    "a multipart form with the field 'file' (curl -F file=@cat.png), or the file as the body with its type "
    "(curl --data-binary @cat.png -H 'Content-Type: image/png')"
)
FILES_WAY: Final = "a multipart form with a field 'files' for each image (curl -F files=@cat.png -F files=@dog.png)"
TYPES: Final = f"an image: {', '.join(READABLE_FORMATS)}"


def check_type(content_type: str) -> None:
    """Check that content of this type may be a supported image; a missing or generic type may.

    Raises:
        UnsupportedTypeError: it may not.
    """
    content_type = content_type.lower()
    if content_type not in UNSPECIFIC_TYPES and content_type not in READABLE_TYPES:
        name = f" ({NAMES[content_type]})" if content_type in NAMES else ""
        raise UnsupportedTypeError(
            f"content of type {content_type[:100]!r}{name} is not supported", expected=TYPES, remedy=WAYS
        )
