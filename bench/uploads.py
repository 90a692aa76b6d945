"""The uploaded images, and the bodies of the requests.

Small images are real and varied: the ten shipped PNGs, JPEGs made from them, and JPEGs of every model's golden images.
`bench.photographs` makes the larger ones. `bench.load` sends the bodies, each with a new boundary and file name.
"""

import base64
import io
import json
import secrets
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.errors import BenchError

JPEG_QUALITY: Final = 90
PLACEHOLDER: Final = "bench0mark0here0"
"""Stands in bodies and content types for what is new in every request: a part of its boundary and of its file name."""
BOUNDARY: Final = f"----WebKitFormBoundary{PLACEHOLDER}"
"""As long as that of a browser."""
V2_HEAD_BYTES: Final = 256


class BodyKind(Enum):
    """The encoding of an image in a request; the value is the request's content type."""

    FORM = f"multipart/form-data; boundary={BOUNDARY}"
    V2_JSON = "application/json"
    V2_BINARY = "application/octet-stream"

    @property
    def headers(self) -> dict[str, str]:
        """The request's other headers."""
        return {"Inference-Header-Content-Length": str(V2_HEAD_BYTES)} if self is BodyKind.V2_BINARY else {}


@dataclass(frozen=True)
class Upload:
    """An encoded image."""

    content: bytes
    media_type: str


@dataclass(frozen=True)
class GoldenImage:
    """A PNG with a version's golden answer, probabilities (classes,)."""

    upload: Upload
    probabilities: NDArray[np.float32]


def golden_images(images: Path, version: Path) -> list[GoldenImage]:
    """Return the shipped PNGs that are in a version's golden.npz; their names end in the index in the test set.

    Raises:
        BenchError: a PNG's pixels differ from the golden ones.
    """
    pixels, probabilities = golden(version)
    found = []
    for file in _pngs(images):
        index = int(file.stem.rpartition("_")[2])
        if index >= len(pixels):
            continue
        with Image.open(file) as image:
            if not np.array_equal(np.asarray(image.convert("RGB")), pixels[index]):
                raise BenchError(f"{file} is not image {index} of {version}/golden.npz")
        found.append(GoldenImage(Upload(file.read_bytes(), "image/png"), probabilities[index]))
    return found


def golden(version: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the images (64, 32, 32, 3) RGB of a version's golden.npz, and their probabilities (64, classes)."""
    with np.load(version / "golden.npz", allow_pickle=False) as stored:
        return stored["images"], stored["probabilities"]


def varied_uploads(images: Path, versions: list[Path]) -> list[Upload]:
    """Alternate PNGs and JPEGs, as long as there are PNGs, without duplicates."""
    pngs = [Upload(file.read_bytes(), "image/png") for file in _pngs(images)]
    pictures = [pixels for version in versions for pixels in golden(version)[0]]
    contents: dict[bytes, None] = {}
    for png in pngs:
        with Image.open(io.BytesIO(png.content)) as image:
            contents[jpeg(np.asarray(image.convert("RGB")))] = None
    for pixels in pictures:
        contents[jpeg(pixels)] = None
    # There are fewer shipped PNGs than JPEGs, so the golden images are also added as PNGs.
    lossless = dict.fromkeys([png.content for png in pngs] + [_encode(pixels, "PNG") for pixels in pictures])
    uploads = []
    for png_content, jpeg_content in zip(lossless, contents, strict=False):
        uploads += [Upload(png_content, "image/png"), Upload(jpeg_content, "image/jpeg")]
    return uploads


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Encode pixels (height, width, 3) as a baseline JPEG."""
    return _encode(pixels, "JPEG", quality=JPEG_QUALITY)


def body(upload: Upload, kind: BodyKind) -> bytes:
    """Build a request's body: the multipart field `file`, or V2 with the image as BYTES, in base64 or binary.

    A form has PLACEHOLDER where `with_mark` puts what is new in each request.
    """
    if kind is BodyKind.V2_JSON:
        content = base64.b64encode(upload.content).decode()
        image = {
            "name": "image",
            "shape": [1],
            "datatype": "BYTES",
            "parameters": {"content_type": "base64"},
            "data": [content],
        }
        return json.dumps({"inputs": [image]}).encode()
    if kind is BodyKind.V2_BINARY:
        return _v2_binary(upload)
    suffix = upload.media_type.partition("/")[2]
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="image-{PLACEHOLDER}.{suffix}"\r\n'
        f"Content-Type: {upload.media_type}\r\n\r\n"
    )
    return head.encode() + upload.content + f"\r\n--{BOUNDARY}--\r\n".encode()


def _v2_binary(upload: Upload) -> bytes:
    """Return V2's JSON, filled with spaces to the length that the header states, and the image after its length."""
    element = len(upload.content).to_bytes(4, "little") + upload.content
    given = {"name": "image", "shape": [1, 1], "datatype": "BYTES"}
    document = {
        "inputs": [given | {"parameters": {"binary_data_size": len(element)}}],
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
    }
    return json.dumps(document).encode().ljust(V2_HEAD_BYTES) + element


def new_mark() -> str:
    """Return a mark of PLACEHOLDER's length."""
    return secrets.token_hex(len(PLACEHOLDER) // 2)


def with_mark(text: bytes, mark: str) -> bytes:
    """Replace PLACEHOLDER in a body or a content type."""
    return text.replace(PLACEHOLDER.encode(), mark.encode())


def write_bodies(folder: Path, uploads: list[Upload], kind: BodyKind) -> int:
    """Write the bodies as files 0, 1, … of a folder, for wrk; return their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, upload in enumerate(uploads):
        (folder / str(number)).write_bytes(body(upload, kind))
    return len(uploads)


def _pngs(images: Path) -> list[Path]:
    return sorted(images.glob("*.png"))


def _encode(pixels: NDArray[np.uint8], image_format: str, **options: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, image_format, **options)
    return stream.getvalue()
