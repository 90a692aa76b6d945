"""The formats that phones, cameras and scanners write, and the rules for all formats."""

import contextlib
import random
import subprocess
import sys
from io import BytesIO

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from service.errors import TooLargeError, UndecodableError, UnsupportedTypeError
from service.http.uploads import check_type
from service.images.encoded import EncodedImage
from tests.conftest import ROOT
from tests.service.images.formats.files import decode, encode, exif, heic_of_tiles, noise, tiff

UPPER_LEFT, REST = (250, 10, 10), (10, 10, 250)


def by_the_rule(content: bytes) -> NDArray[np.uint8]:
    """Return the pixels by the rule of docs/images.md, with Pillow alone and without sparing copies."""
    image = Image.open(BytesIO(content))
    orientation = image.getexif().get(0x0112)
    image.draft(None, (32, 32)) if image.format == "JPEG" else None
    if image.mode.startswith("I"):
        colours = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    else:
        colours = image.convert("RGBA" if image.has_transparency_data else "RGB")
    side = min(colours.size)
    left, top = (colours.width - side) // 2, (colours.height - side) // 2
    square = colours.resize((32, 32), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    if square.mode == "RGBA":
        square = Image.alpha_composite(Image.new("RGBA", square.size, "white"), square).convert("RGB")
    tag = Image.Exif()
    tag[0x0112] = orientation or 1
    square.info["exif"] = tag.tobytes()
    return np.asarray(ImageOps.exif_transpose(square))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_pixels_are_those_of_the_rule(kind: str, mode: str) -> None:
    generator = random.Random(f"{kind} {mode}")  # noqa: S311
    writable = {
        "PNG": {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"},
        "JPEG": {"L", "RGB", "CMYK"},
        "WEBP": {"L", "P", "RGB", "RGBA"},
        "GIF": {"L", "P", "RGB", "RGBA"},
        "BMP": {"1", "L", "P", "RGB"},
    }[kind]
    if mode not in writable:
        pytest.skip(f"{kind} has no {mode}")
    for size in [(1, 1), (1, 9), (31, 33), (32, 32), (33, 32), (32, 90), (100, 80), (129, 300), (20, 700)]:
        image = noise(*size, mode)
        variants: list[dict[str, object]] = [{}]
        if kind in {"PNG", "JPEG", "WEBP"}:
            variants.append({"exif": exif(generator.randint(1, 8)), "icc_profile": bytes(70_000)})
        if kind == "JPEG":
            variants += [{"progressive": True, "comment": b"x" * 99}, {"subsampling": 0, "restart_marker_blocks": 2}]
        if kind in {"GIF", "WEBP", "PNG"} and mode != "I;16":
            variants.append({"save_all": True, "append_images": [noise(*size, mode).rotate(180)]})
        for options in variants:
            content = encode(image, kind, **options)
            assert np.array_equal(decode(content), by_the_rule(content)), (size, options)


def corner(width: int = 96, height: int = 64) -> Image.Image:
    image = Image.new("RGB", (width, height), REST)
    image.paste(UPPER_LEFT, (0, 0, width // 2, height // 2))
    return image


def corner_of(pixels: NDArray[np.uint8]) -> tuple[bool, ...]:
    """Return for each corner whether it is red: upper left, upper right, lower left, lower right."""
    places = ((6, 6), (6, 25), (25, 6), (25, 25))
    return tuple(bool(pixels[place][0] > 128 > pixels[place][2]) for place in places)


TURNED = {1: 0, 2: 1, 3: 3, 4: 2, 5: 0, 6: 1, 7: 3, 8: 2}
"""EXIF orientation -> where the upper left corner of the stored picture belongs."""


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["HEIC", "AVIF", "TIFF", "JPEG", "PNG", "WEBP"])
def test_pictures_stand_upright_and_are_turned_once(kind: str, orientation: int) -> None:
    if kind == "HEIC":
        heif = pillow_heif.from_pillow(corner(64, 64))
        heif.info["exif"] = exif(orientation)
        stream = BytesIO()
        heif.save(stream, quality=90)
        content = stream.getvalue()
    else:
        content = encode(
            corner(64, 64),
            kind,
            **({"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": exif(orientation)}),
        )
    assert corner_of(decode(content)) == tuple(place == TURNED[orientation] for place in range(4))


def test_heic_of_a_phone_is_read_by_tiles_with_transparency_and_10_bits() -> None:
    plain = decode(encode(noise(300, 300)))
    pillow_heif.options.GRID_TILE_SIZE = 128
    try:
        tiles = encode(noise(300, 300), "HEIC", quality=95)
    finally:
        pillow_heif.options.GRID_TILE_SIZE = 0
    assert np.abs(decode(tiles).astype(int) - plain).mean() < 6
    deep = (np.asarray(noise(300, 300)).astype(np.uint16) * 257).tobytes()
    stream = BytesIO()
    pillow_heif.from_bytes("RGB;16", (300, 300), deep).save(stream, quality=95)
    assert np.abs(decode(stream.getvalue()).astype(int) - plain).mean() < 6
    clear = decode(encode(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), "HEIC"))
    assert clear.min() > 250


def test_a_picture_of_two_tiles_has_its_own_size() -> None:
    """The item's description is followed by bytes that are like a film's."""
    pixels = decode(heic_of_tiles(512, 2, 514, 512))
    assert np.abs(pixels.astype(int) - (0x5A, 0x14, 0x1E)).max() < 6


def test_primary_image_of_several_in_a_heic_counts() -> None:
    heif = pillow_heif.from_pillow(Image.new("RGB", (64, 64), UPPER_LEFT))
    heif.add_from_pillow(Image.new("RGB", (64, 64), REST))
    stream = BytesIO()
    heif.save(stream, primary_index=1, quality=90)
    assert decode(stream.getvalue())[16, 16, 2] > 200


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_damaged_exif_does_not_spoil_the_picture(kind: str) -> None:
    made = Image.Exif()
    made[0x010F] = "a maker"
    content = encode(noise(), kind, exif=made.tobytes())
    damaged = content.replace(b"MM\0*", b"MM!!").replace(b"II*\0", b"II!!")
    assert damaged != content
    assert np.array_equal(decode(damaged), decode(content))


def test_first_frame_of_an_avif_counts() -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in (UPPER_LEFT, REST)]
    content = encode(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    assert decode(content)[16, 16, 0] > 200


@pytest.mark.parametrize("kind", ["HEIC", "AVIF", "TIFF"])
def test_size_is_known_before_anything_is_decoded(kind: str) -> None:
    with pytest.raises(TooLargeError, match="300 x 200 = 60,000 pixels"):
        EncodedImage(encode(noise(300, 200), kind), (32, 32, 3), max_pixels=59_999)


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_image_that_is_larger_than_it_says_is_damage_or_small(kind: str) -> None:
    content = encode(noise(256, 256), kind)
    lie = content.replace(b"ispe" + bytes(4) + b"\0\0\1\0\0\0\1\0", b"ispe" + bytes(4) + b"\0\0\0\x40\0\0\0\x40")
    assert lie != content
    with contextlib.suppress(UndecodableError):
        assert decode(lie).shape == (32, 32, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg"])
def test_tiff_is_read_as_the_same_picture_in_a_png(mode: str, compression: str | None) -> None:
    if compression == "jpeg" and mode not in {"L", "RGB"}:
        pytest.skip("JPEG has no such pixels")
    image = noise(70, 50, mode)
    pixels = decode(encode(image, "TIFF", compression=compression))
    expected = decode(encode(image.convert("RGB") if mode == "CMYK" else image))
    assert np.abs(pixels.astype(int) - expected).max() <= (40 if compression == "jpeg" else 0)


def test_first_page_of_a_tiff_counts_and_big_endian_ones_are_read() -> None:
    pages = [Image.new("RGB", (64, 64), colour) for colour in (UPPER_LEFT, REST)]
    assert decode(encode(pages[0], "TIFF", save_all=True, append_images=pages[1:]))[16, 16].tolist() == list(UPPER_LEFT)
    grey = bytes(range(64)) * 64
    directory = b"".join(
        tag.to_bytes(2) + b"\0\4" + (1).to_bytes(4) + value.to_bytes(4)
        for tag, value in (
            (256, 64),
            (257, 64),
            (258, 8),
            (259, 1),
            (262, 1),
            (273, 8),
            (277, 1),
            (278, 64),
            (279, 4096),
        )
    )
    content = b"MM\0*" + (8 + len(grey)).to_bytes(4) + grey + (9).to_bytes(2) + directory + bytes(4)
    assert np.array_equal(decode(content), decode(encode(Image.frombytes("L", (64, 64), grey))))
    assert np.array_equal(decode(encode(noise(), "TIFF", big_tiff=True)), decode(encode(noise())))


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({259: (3, 1, 4)}, "compression 4 is not supported"),
        ({258: (3, 1, 32), 339: (3, 1, 3)}, "floating-point samples is not supported"),
        ({258: (3, 1, 32)}, "samples of 32 bits is not supported"),
    ],
)
def test_tiff_of_a_kind_that_is_not_read_says_what_is(tags: dict[int, tuple[int, int, int]], words: str) -> None:
    page = {
        256: (4, 1, 8),
        257: (4, 1, 8),
        258: (3, 1, 8),
        262: (3, 1, 1),
        273: (4, 1, 8),
        277: (3, 1, 1),
        279: (4, 1, 64),
    }
    with pytest.raises(UndecodableError, match=words):
        decode(tiff(page | tags, bytes(256)))


@pytest.mark.parametrize(
    "kind",
    [
        "image/png",
        "image/x-png",
        "image/apng",
        "image/jpeg",
        "image/JPG",
        "image/pjpeg",
        "image/bmp",
        "image/x-bmp",
        "image/x-ms-bmp",
        "image/heic",
        "image/heif",
        "image/heic-sequence",
        "image/heif-sequence",
        "image/avif",
        "image/tiff",
        "image/x-tiff",
        "image/webp",
        "IMAGE/GIF",
        "application/octet-stream",
        "*/*",
    ],
)
def test_types_that_clients_name_are_taken(kind: str) -> None:
    check_type(kind)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("image/svg+xml", "SVG"), ("application/pdf", "PDF"), ("image/jxl", "JPEG XL"), ("text/x", "text/x")],
)
def test_types_that_are_not_taken_are_named(kind: str, name: str) -> None:
    with pytest.raises(UnsupportedTypeError, match=name):
        check_type(kind)


OUT_OF_MEMORY = """
import resource, sys
from io import BytesIO
from PIL import Image
from service.errors import UnavailableError
from service.images.encoded import EncodedImage
from service.process.lifecycle import configure_malloc
configure_malloc()
for kind in sys.argv[1:]:
    stream = BytesIO()
    Image.new("RGB", (4000, 4000), (1, 2, 3)).save(stream, kind, **({"speed": 10} if kind == "AVIF" else {}))
    files = EncodedImage(stream.getvalue(), (32, 32, 3), max_pixels=10**9)
    files.decode()
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 8 * 2**20, resource.RLIM_INFINITY))
    try:
        files.decode()
    except UnavailableError as error:
        print(kind, "unavailable", error.retry_after_s)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""
LARGE_KINDS = ("PNG", "BMP", "WEBP", "GIF", "TIFF", "AVIF")


@pytest.mark.skipif(sys.platform != "linux", reason="limits its memory as Linux does")
def test_want_of_memory_is_no_damage() -> None:
    command = [sys.executable, "-c", OUT_OF_MEMORY, *LARGE_KINDS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    told = [line.split()[:2] for line in done.stdout.splitlines()]
    assert told == [[kind, "unavailable"] for kind in LARGE_KINDS], done.stderr[-2000:]


@pytest.mark.parametrize(("bits", "photometric"), [(16, 0), (12, 1)])
def test_grey_of_more_than_8_bits_in_a_tiff(bits: int, photometric: int) -> None:
    values = np.linspace(0, 2**bits - 1, 32 * 32).astype(np.uint16).reshape(32, 32)
    packed = "".join(f"{value:012b}" for value in values.flat)
    data = values.astype("<u2").tobytes() if bits == 16 else int(packed, 2).to_bytes(32 * 48)
    page = {256: (4, 1, 32), 257: (4, 1, 32), 258: (3, 1, bits), 259: (3, 1, 1), 262: (3, 1, photometric)}
    page |= {273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, 32), 279: (4, 1, len(data))}
    upper_bits = values >> (bits - 8)
    assert np.array_equal(decode(tiff(page, data))[..., 0], upper_bits if photometric else 255 - upper_bits)


def test_a_kind_that_no_decoder_takes_is_named_without_a_place_in_memory() -> None:
    page = {256: (4, 1, 8), 257: (4, 1, 8), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 9), 277: (3, 1, 1)}
    with pytest.raises(UndecodableError, match="its header is damaged or not supported"):
        decode(tiff(page | {273: (4, 1, 8), 278: (4, 1, 8), 279: (4, 1, 64)}, bytes(64)))
