"""Damaged, unknown or truncated metadata does not change the pixels."""

import pytest

from service.errors import UndecodableError
from tests.service.images.formats.files import (
    Make,
    chunk,
    decode,
    encode,
    exif,
    in_jpeg,
    in_png,
    noise,
    riff,
    segment,
)

JPEG, PNG, GIF, WEBP = (encode(noise(), kind) for kind in ("JPEG", "PNG", "GIF", "WEBP"))
GIF_SCREEN = 13 + (3 << ((GIF[10] & 7) + 1))
EXTENDED = (b"VP8X", bytes([0x2C, 0, 0, 0]) + (63).to_bytes(3, "little") + (47).to_bytes(3, "little"))
PICTURE = (WEBP[12:16], WEBP[20:])

SAME: dict[str, tuple[bytes, Make]] = {
    "tEXt with a wrong sum": (PNG, lambda: in_png(PNG, chunk(b"tEXt", b"a\0b", damage=1))),
    "profile with a wrong sum": (PNG, lambda: in_png(PNG, chunk(b"iCCP", b"garbage", damage=1))),
    "tRNS with a wrong sum": (PNG, lambda: in_png(PNG, chunk(b"tRNS", bytes(6), damage=1))),
    "eXIf of garbage": (PNG, lambda: in_png(PNG, chunk(b"eXIf", b"garbage"))),
    "text without an end of its key": (PNG, lambda: in_png(PNG, chunk(b"zTXt", b"key"))),
    "iTXt of one byte": (PNG, lambda: in_png(PNG, chunk(b"iTXt", b"XML:com.adobe.xmp\0\1"))),
    "text that is no deflate": (PNG, lambda: in_png(PNG, chunk(b"zTXt", b"Raw profile type exif\0\0garbage"))),
    "gAMA, pHYs, cHRM too short": (PNG, lambda: in_png(PNG, chunk(b"gAMA") + chunk(b"pHYs") + chunk(b"cHRM", b"a"))),
    "sRGB, acTL, fcTL too short": (PNG, lambda: in_png(PNG, chunk(b"sRGB") + chunk(b"acTL") + chunk(b"fcTL", b"a"))),
    "unknown chunk": (PNG, lambda: in_png(PNG, chunk(b"quIz", b"1234"))),
    "PNG without an end": (PNG, lambda: PNG[:-12]),
    "PNG with garbage behind": (PNG, lambda: PNG + b"garbage" * 1000),
    "PNG with a cut-off chunk behind": (PNG, lambda: PNG[:-12] + chunk(b"tEXt", bytes(100))[:50]),
    "JFIF too short": (JPEG, lambda: in_jpeg(JPEG, segment(0xE0, b"JFIF"))),
    "Adobe too short": (JPEG, lambda: in_jpeg(JPEG, segment(0xEE, b"Adobe"))),
    "EXIF too short": (JPEG, lambda: in_jpeg(JPEG, segment(0xE1, b"Exif\0\0"))),
    "EXIF of garbage": (JPEG, lambda: in_jpeg(JPEG, segment(0xE1, b"Exif\0\0MM\0*garbage"))),
    "segment without a length": (JPEG, lambda: in_jpeg(JPEG, b"\xff\xe1\0\0")),
    "Photoshop of garbage": (JPEG, lambda: in_jpeg(JPEG, segment(0xED, b"Photoshop 3.0\x008BIM\4\4"))),
    "profile of garbage": (JPEG, lambda: in_jpeg(JPEG, segment(0xE2, b"ICC_PROFILE\0"))),
    "pictures of garbage": (JPEG, lambda: in_jpeg(JPEG, segment(0xE2, b"MPF\0MM"))),
    "EXIF with a wrong mark": (JPEG, lambda: in_jpeg(JPEG, segment(0xE1, b"Exif\0\0MM1*" + exif(6)[10:]))),
    "JPEG without an end": (JPEG, lambda: JPEG[:-2]),
    "JPEG with half an end": (JPEG, lambda: JPEG[:-1]),
    "JPEG with garbage behind": (JPEG, lambda: JPEG + b"garbage" * 1000),
    "GIF with garbage behind": (GIF, lambda: GIF + b"garbage" * 1000),
    "GIF without an end": (GIF, lambda: GIF[:-1]),
    "GIF with an odd comment": (GIF, lambda: GIF[:GIF_SCREEN] + b"!\xfe\0" + GIF[GIF_SCREEN:]),
    "WebP EXIF of garbage": (WEBP, lambda: riff(EXTENDED, PICTURE, (b"EXIF", b"x"), (b"ICCP", b""))),
    "WebP XMP cut off": (WEBP, lambda: riff(EXTENDED, PICTURE, (b"XMP ", bytes(1000)))[:-900]),
    "WebP with garbage behind": (WEBP, lambda: WEBP + b"garbage" * 1000),
}


@pytest.mark.parametrize("name", SAME)
def test_the_pixels_are_those_of_the_plain_file(name: str) -> None:
    plain, make = SAME[name]
    assert (decode(make()) == decode(plain)).all()


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT"])
def test_a_wrong_sum_of_a_chunk_that_the_pixels_need_is_damage(kind: bytes) -> None:
    place = PNG.index(kind)
    end = place + 4 + int.from_bytes(PNG[place - 4 : place])
    content = PNG[:end] + bytes([PNG[end] ^ 1]) + PNG[end + 1 :]
    with pytest.raises(UndecodableError, match=f"checksum of its chunk {kind.decode()}"):
        decode(content)


def test_a_wrong_sum_of_the_palette_is_damage() -> None:
    content = encode(noise().quantize(16))
    place = content.index(b"PLTE")
    with pytest.raises(UndecodableError, match="checksum of its chunk PLTE"):
        decode(content[: place + 4] + bytes([content[place + 4] ^ 1]) + content[place + 5 :])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_damaged_tag_does_not_hide_the_orientation(orientation: int) -> None:
    block = b"Exif\0\0" + exif(orientation).removeprefix(b"Exif\0\0")
    turned = in_jpeg(JPEG, segment(0xE1, block))
    assert (decode(turned) == decode(encode_turned(orientation))).all()
    assert (decode(in_png(PNG, chunk(b"eXIf", block[6:]))) == decode(in_png(PNG, xmp_chunk(orientation)))).all()


def encode_turned(orientation: int) -> bytes:
    return in_jpeg(JPEG, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(orientation)))


def xmp(orientation: int) -> bytes:
    return b'<x:xmpmeta tiff:Orientation="%d"/>' % orientation


def xmp_chunk(orientation: int) -> bytes:
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(orientation))
