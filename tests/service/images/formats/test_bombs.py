"""Files made of the smallest part of their format, over and over: each is rejected, or read without looking at them.

Every one of them took its decoder seconds to minutes.
"""

import struct
import zlib

import pytest

from service.errors import TooLargeError, UndecodableError
from service.images.encoded import EncodedImage
from tests.service.images.formats.files import (
    MAX_PIXELS,
    Make,
    box,
    chunk,
    decode,
    encode,
    heic_of_tiles,
    in_jpeg,
    in_png,
    noise,
    riff,
    segment,
    tiff,
)

JPEG, PROGRESSIVE, PNG = encode(noise(), "JPEG"), encode(noise(), "JPEG", progressive=True), encode(noise())
GIF, WEBP = encode(noise(mode="L"), "GIF"), encode(noise(), "WEBP")
GIF_SCREEN = 13 + (3 << ((GIF[10] & 7) + 1))
HEIC, AVIF = encode(noise(), "HEIC"), encode(noise(), "AVIF")
EXTENDED = (b"VP8X", bytes([0x2C, 0, 0, 0]) + (63).to_bytes(3, "little") + (47).to_bytes(3, "little"))
GREY_PAGE = {256: (4, 1, 8), 257: (4, 1, 8), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}


def bmp_of_runs(width: int, height: int, runs: bytes) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(runs), 0, 0, 1078) + header + bytes(range(256)) * 4 + runs


REJECTED: dict[str, tuple[Make, str]] = {
    "EXIF in segments": (lambda: in_jpeg(JPEG, segment(0xE1, b"Exif\0\0x") * 300_000), "10,000 segments"),
    "comments": (lambda: in_jpeg(JPEG, segment(0xFE) * 1_000_000), "10,000 segments"),
    "tables behind the scan": (lambda: JPEG[:-2] + segment(0xC4, bytes(17)) * 50_000 + JPEG[-2:], "10,000 segments"),
    "fill bytes behind the scan": (lambda: JPEG[:-2] + b"\xff" * 5_000_000 + JPEG[-2:], "bytes between two markers"),
    "scans": (
        lambda: PROGRESSIVE[:-2] + PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2] * 40,
        r"the JPEG has \d+ scans",
    ),
    "empty chunks": (lambda: in_png(PNG, chunk(b"tEXt") * 500_000), "50,000 chunks"),
    "empty data chunks": (lambda: in_png(PNG, chunk(b"IDAT") * 500_000), "50,000 chunks"),
    "GIF comments": (lambda: GIF[:GIF_SCREEN] + b"!\xfe\1a\0" * 500_000 + GIF[GIF_SCREEN:], "10,000 extensions"),
    "GIF blocks": (
        lambda: GIF[:GIF_SCREEN] + b"!\xfe" + b"\1a" * 1_000_000 + b"\0" + GIF[GIF_SCREEN:],
        "250,000 blocks",
    ),
    "GIF junk": (lambda: GIF[:GIF_SCREEN] + b"x" * 1_000_000 + GIF[GIF_SCREEN:], "10,000 extensions"),
    "WebP chunks": (lambda: riff(EXTENDED, *[(b"abcd", b"")] * 20_000), "10,000 chunks"),
    "BMP runs": (lambda: bmp_of_runs(1000, 1000, b"\0\0" * 1_000_000), "run-length encoded"),
    "TIFF strips": (
        lambda: tiff(GREY_PAGE | {273: (4, 40_000, 8), 279: (4, 40_000, 8), 278: (4, 1, 1)}, bytes(160_000)),
        "32,768 strips",
    ),
    "TIFF tags": (lambda: tiff(dict.fromkeys(range(300, 6000), (3, 1, 1)), b""), "4,096 tags"),
    "HEIC boxes": (lambda: HEIC + box(b"free") * 100_000, "1,000 boxes"),
    "HEIC tiles": (lambda: heic_of_tiles(256, 64, 300, 256), "8 pixels of tiles for each"),
    "AVIF boxes": (lambda: AVIF + box(b"free") * 100_000, "1,000 boxes"),
    "AVIF items": (
        lambda: AVIF[:32] + box(b"meta", bytes(4) + box(b"iinf", bytes(300_000))) + AVIF[32:],
        "262,144 bytes",
    ),
}


@pytest.mark.parametrize("name", REJECTED)
def test_more_parts_than_any_program_writes_are_rejected(name: str) -> None:
    make, words = REJECTED[name]
    with pytest.raises(TooLargeError, match=words):
        EncodedImage(make(), (32, 32, 3), max_pixels=MAX_PIXELS)


BOMB = zlib.compress(bytes(30_000_000))
PASSED_OVER: dict[str, tuple[bytes, Make]] = {
    "EXIF of 65 KB tags": (JPEG, lambda: in_jpeg(JPEG, segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 150)),
    "9,000 EXIF segments": (JPEG, lambda: in_jpeg(JPEG, segment(0xE1, b"Exif\0\0x") * 9000)),
    "9,000 profiles": (JPEG, lambda: in_jpeg(JPEG, segment(0xE2, b"ICC_PROFILE\0\1\xff") * 9000)),
    "9,000 Photoshop blocks": (JPEG, lambda: in_jpeg(JPEG, segment(0xED, b"Photoshop 3.0\0") * 9000)),
    "fill bytes": (JPEG, lambda: in_jpeg(JPEG, b"\xff" * 3_000_000)),
    "text": (PNG, lambda: in_png(PNG, chunk(b"zTXt", b"a\0\0" + BOMB) * 50)),
    "text that says how it is turned": (PNG, lambda: in_png(PNG, chunk(b"zTXt", b"Raw profile type exif\0\0" + BOMB))),
    "XMP": (PNG, lambda: in_png(PNG, chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB))),
    "profile": (PNG, lambda: in_png(PNG, chunk(b"iCCP", b"a\0\0" + BOMB))),
    "large text": (PNG, lambda: in_png(PNG, chunk(b"tEXt", b"a\0" + b"x" * 2_000_000))),
    "frames": (PNG, lambda: PNG[:-12] + chunk(b"fdAT", b"abcd") * 40_000 + PNG[-12:]),
    "GIF frames": (GIF, lambda: GIF[:-1] + GIF[GIF_SCREEN:-1] * 1000 + b";"),
    "WebP EXIF": (WEBP, lambda: riff(EXTENDED, (WEBP[12:16], WEBP[20:]), (b"EXIF", b"II*\0" * 500_000))),
}


@pytest.mark.parametrize("name", PASSED_OVER)
def test_metadata_are_passed_over_however_many(name: str) -> None:
    plain, make = PASSED_OVER[name]
    assert (decode(make()) == decode(plain)).all()


def test_search_for_a_marker_is_no_search_from_each_byte_of_a_run() -> None:
    with pytest.raises(UndecodableError):
        EncodedImage(b"\xff\xd8\xff" + b"\xff" * 5_000_000, (32, 32, 3), max_pixels=MAX_PIXELS)


def test_many_data_chunks_are_joined() -> None:
    start = PNG.index(b"IDAT")
    size = int.from_bytes(PNG[start - 4 : start])
    data = PNG[start + 4 : start + 4 + size]
    split = b"".join(chunk(b"IDAT", data[place : place + 1]) for place in range(size))
    assert (decode(PNG[: start - 4] + split + chunk(b"IEND")) == decode(PNG)).all()


def test_tile_that_is_larger_than_the_image_counts_as_what_it_takes() -> None:
    page = GREY_PAGE | {322: (4, 1, 65_536), 323: (4, 1, 65_536), 324: (4, 1, 8), 325: (4, 1, 64)}
    assert EncodedImage(tiff(page, bytes(64)), (32, 32, 3), max_pixels=MAX_PIXELS).decode_bytes > 2**32


def test_strips_that_share_their_bytes_are_damage() -> None:
    content = tiff(
        GREY_PAGE | {273: (4, 100, 8), 279: (4, 100, 408), 278: (4, 1, 1)},
        struct.pack("<100I", *[8] * 100) + struct.pack("<100I", *[100_000] * 100) + bytes(100_000),
    )
    with pytest.raises(UndecodableError, match="overlap"):
        EncodedImage(content, (32, 32, 3), max_pixels=MAX_PIXELS)
