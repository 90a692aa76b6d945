"""The name of a file that is none of the images that are read, by its first bytes.

`puremagic` and `filetype` know more of them, and were tried: the former calls a zip a Word document and zeros an
embroidery design, neither knows a Canon CR3 or an SVG without its prolog. A wrong name helps nobody.
"""

import re
from typing import Final

from service.image_files.heif import brands

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


def kind_of(content: bytes) -> str | None:
    """Return what a file is, in words with an article; None where its first bytes don't say."""
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
