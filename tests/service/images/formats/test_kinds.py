"""The error for an unsupported file names its format."""

import pytest

from service.errors import UndecodableError
from tests.service.images.formats.files import box, decode, tiff

NAMED = {
    b"%PDF-1.7\n": "a PDF document",
    b'<?xml version="1.0"?>\n<!-- a drawing -->\n<svg xmlns="http://www.w3.org/2000/svg"/>': "an SVG drawing",
    b"<svg/>": "an SVG drawing",
    b"\xef\xbb\xbf  <!DOCTYPE html><html>": "an HTML page",
    b"\xff\x0a" + bytes(30): "a JPEG XL image",
    b"\0\0\0\x0cJXL \r\n\x87\n": "a JPEG XL image",
    b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ": "a JPEG 2000 image",
    b"8BPS\0\1": r"a Photoshop document \(PSD\)",
    b"II*\0\x10\0\0\0CR\2\0": r"a camera's raw photo \(CR2\)",
    box(b"ftyp", b"crx \0\0\0\1crx isom"): r"a camera's raw photo \(CR3\)",
    box(b"ftyp", b"mp42\0\0\0\0mp42isom"): "an MPEG-4 video",
    box(b"ftyp", b"qt  \0\0\0\0qt  "): "a QuickTime video",
    b"RIFF\0\0\0\0AVI LIST": "an AVI video",
    b"PK\3\4\x14\0": "a zip archive",
    b"\0\0\1\0\1\0": "a Windows icon",
    b"P6\n3 3\n255\n": "a Netpbm image",
    b'{"instances": []}': "JSON",
    b"data:image/png;base64,iVBORw0KGgo": "a data: address",
    b"iVBORw0KGgoAAAANSUhEUg": "base64",
    b"FUJIFILMCCD-RAW 0201": "raw photo",
    tiff({254: (4, 1, 1), 259: (3, 1, 1), 330: (4, 1, 8)}, b""): "raw photo",
    tiff({259: (3, 1, 1), 50706: (1, 4, 1)}, b""): "raw photo",
}


@pytest.mark.parametrize("content", NAMED, ids=NAMED.values())
def test_a_file_that_is_not_read_is_named(content: bytes) -> None:
    with pytest.raises(UndecodableError, match=NAMED[content]):
        decode(content)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(1000), b"\x89PNG", b"GIF", b"<", b"P", b"BM"])
def test_nothing_is_made_up(content: bytes) -> None:
    with pytest.raises(UndecodableError, match=r"not a supported image|truncated"):
        decode(content)
