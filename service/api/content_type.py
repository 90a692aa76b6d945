"""Which declared content types may carry an image, and how to send one, in words."""

from typing import Final

from service.errors import UnsupportedTypeError
from service.images import READABLE_FORMATS, READABLE_TYPES

UNSPECIFIC_TYPES: Final = frozenset({"", "application/octet-stream", "binary/octet-stream", "image/*"})
WAYS: Final = (
    "a multipart form with the field 'file' (curl -F file=@cat.png), or the file as the body with its type "
    "(curl --data-binary @cat.png -H 'Content-Type: image/png')"
)
FILES_WAY: Final = "a multipart form with a field 'files' for each image (curl -F files=@cat.png -F files=@dog.png)"
TYPES: Final = f"an image: {', '.join(READABLE_FORMATS)}"


def check_type(content_type: str) -> None:
    """Whether content of this type may be an image that is read; none declared, or an unspecific one, may.

    Raises:
        UnsupportedTypeError: it may not.
    """
    if content_type not in UNSPECIFIC_TYPES and content_type not in READABLE_TYPES:
        raise UnsupportedTypeError(f"content of type {content_type[:100]!r} is not read", expected=TYPES, remedy=WAYS)
