"""Every kind of image source reaches the real service as the same pixels; everything else is an error at once."""

import base64
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO, StringIO
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageSequence

from cifar10_serving.client import Client, ImageSourceError
from cifar10_serving.client._images import encode_image
from tests.cifar10_serving.client.asking import Ask, both
from tests.conftest import SAMPLES, golden_class
from tests.e2e.server import Server

SHIP = next(sample for sample in SAMPLES if sample.file.stem.startswith("ship"))


def read_only(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    copy = pixels.copy()
    copy.flags.writeable = False
    return copy


class BytesPath(os.PathLike[bytes]):
    def __fspath__(self) -> bytes:
        return os.fsencode(SHIP.file)


class Dripping:
    """A socket's file may give less than it is asked for."""

    def __init__(self) -> None:
        self._file = BytesIO(SHIP.file.read_bytes())

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, 100))


def in_an_archive() -> IO[bytes]:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.write(SHIP.file, "ship.png")
    return zipfile.ZipFile(stream).open("ship.png")


SOURCES: dict[str, Callable[[], Any]] = {
    "path": lambda: SHIP.file,
    "text of a path": lambda: str(SHIP.file),
    "bytes": SHIP.file.read_bytes,
    "bytearray": lambda: bytearray(SHIP.file.read_bytes()),
    "file in memory": lambda: BytesIO(SHIP.file.read_bytes()),
    "array": lambda: SHIP.pixels,
    "array that is not contiguous": lambda: np.asfortranarray(SHIP.pixels),
    "array turned twice": lambda: np.ascontiguousarray(SHIP.pixels[::-1, ::-1])[::-1, ::-1],
    "array that can't be written": lambda: read_only(SHIP.pixels),
    "array of a subclass": lambda: SHIP.pixels.view(np.ma.MaskedArray),
    "path in bytes": BytesPath,
    "memoryview": lambda: memoryview(SHIP.file.read_bytes()),
    "file that gives a little at a time": Dripping,
    "member of an archive": in_an_archive,
    "Pillow image": lambda: Image.fromarray(SHIP.pixels),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_every_source_gets_the_golden_class(service: Client, source: Callable[[], Any]) -> None:
    prediction = service.predict(source(), model="sequential", top_k=1)
    assert prediction.class_id == golden_class("sequential", SHIP)
    assert prediction == service.predict(SHIP.file, model="sequential", top_k=1)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 7, 3), (300, 200, 3)])
def test_array_becomes_a_png_of_the_same_pixels(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    sent = encode_image(pixels)
    assert sent.content_type == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(sent.content))), pixels)


@pytest.mark.parametrize(
    ("begins", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image/heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "image/heic"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "image/avif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf", "image/heif"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "image/avif"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "application/octet-stream"),
        (b"II*\0\x08\0\0\0", "image/tiff"),
        (b"MM\0*\0\0\0\x08", "image/tiff"),
        (b"BMW is no bitmap", "application/octet-stream"),
        (b"%PDF-1.7", "application/octet-stream"),
    ],
)
def test_type_is_told_from_the_first_bytes(begins: bytes, kind: str) -> None:
    assert encode_image(begins + bytes(100)).content_type == kind


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_file_is_sent_as_it_is_with_its_type(kind: str) -> None:
    stream = BytesIO()
    Image.fromarray(SHIP.pixels).save(stream, kind)
    sent = encode_image(stream.getvalue())
    assert sent.content == stream.getvalue()
    assert sent.content_type == f"image/{kind.lower()}"


def seen_by_the_model(service: Client, image: Any) -> NDArray[np.uint8]:
    """The 32x32 pixels that the service made of it."""
    encoded = service.compare(image, models=["sequential"]).model_input.partition(",")[2]
    return np.asarray(Image.open(BytesIO(base64.b64decode(encoded))).convert("RGB"))


def png(image: Image.Image) -> bytes:
    stream = BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


COLOURS = Image.fromarray(SHIP.pixels)
GREY_16_BITS = np.asarray(COLOURS.convert("L")).astype(np.uint16) * 257
ALPHA = Image.linear_gradient("L").resize((32, 32))


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(ALPHA)
    return image


def palette(mode: str = "RGB", **info: Any) -> Image.Image:
    image = with_alpha(COLOURS).quantize(method=Image.Quantize.FASTOCTREE) if mode == "RGBA" else COLOURS.quantize()
    image.info.update(info)
    return image


def grey_16_bits(mode: str, order: str) -> Image.Image:
    return Image.frombytes(mode, (32, 32), GREY_16_BITS.astype(f"{order}u2").tobytes())


def palette_with_alpha() -> Image.Image:
    image = Image.new("PA", (32, 32))
    image.putpalette([255, 0, 0, 0, 0, 255])
    for x in range(32):
        for y in range(32):
            image.putpixel((x, y), (x % 2, 8 * y))
    return image


PILLOW_IMAGES: dict[str, tuple[Callable[[], Image.Image], Callable[[], Image.Image]]] = {
    "1": (lambda: COLOURS.convert("1"), lambda: COLOURS.convert("1")),
    "L": (lambda: COLOURS.convert("L"), lambda: COLOURS.convert("L")),
    "LA": (lambda: with_alpha(COLOURS.convert("L")), lambda: with_alpha(COLOURS.convert("L"))),
    "La": (
        lambda: with_alpha(COLOURS.convert("L")).convert("La"),
        lambda: with_alpha(COLOURS.convert("L")).convert("La").convert("LA"),
    ),
    "P": (palette, palette),
    "P with one transparent colour": (lambda: palette(transparency=3), lambda: palette(transparency=3)),
    "P with alpha for some colours": (
        lambda: palette(transparency=bytes(range(0, 250, 5))),
        lambda: palette(transparency=bytes(range(0, 250, 5))),
    ),
    "P with a palette of RGBA": (lambda: palette("RGBA"), lambda: palette("RGBA").convert("RGBA")),
    "PA": (palette_with_alpha, lambda: palette_with_alpha().convert("RGBA")),
    "RGB with a transparent colour": (
        lambda: transparent(COLOURS, COLOURS.getpixel((5, 5))),
        lambda: transparent(COLOURS, COLOURS.getpixel((5, 5))),
    ),
    "L with a transparent grey": (
        lambda: transparent(COLOURS.convert("L"), COLOURS.convert("L").getpixel((5, 5))),
        lambda: transparent(COLOURS.convert("L"), COLOURS.convert("L").getpixel((5, 5))),
    ),
    "RGBA": (lambda: with_alpha(COLOURS), lambda: with_alpha(COLOURS)),
    "RGBa": (
        lambda: with_alpha(COLOURS).convert("RGBa"),
        lambda: with_alpha(COLOURS).convert("RGBa").convert("RGBA"),
    ),
    "RGBX": (lambda: COLOURS.convert("RGBX"), lambda: COLOURS),
    "CMYK": (lambda: COLOURS.convert("CMYK"), lambda: COLOURS.convert("CMYK").convert("RGB")),
    "YCbCr": (lambda: COLOURS.convert("YCbCr"), lambda: COLOURS.convert("YCbCr").convert("RGB")),
    "HSV": (lambda: COLOURS.convert("HSV"), lambda: COLOURS.convert("HSV").convert("RGB")),
    "I;16": (lambda: grey_16_bits("I;16", "<"), lambda: grey_16_bits("I;16", "<")),
    "I;16L": (lambda: grey_16_bits("I;16L", "<"), lambda: grey_16_bits("I;16", "<")),
    "I;16B": (lambda: grey_16_bits("I;16B", ">"), lambda: grey_16_bits("I;16", "<")),
    "I;16N": (lambda: grey_16_bits("I;16N", "="), lambda: grey_16_bits("I;16", "<")),
    "I": (lambda: Image.fromarray(GREY_16_BITS.astype(np.int32)), lambda: grey_16_bits("I;16", "<")),
    "F": (lambda: COLOURS.convert("L").convert("F"), lambda: COLOURS.convert("L")),
}


def transparent(image: Image.Image, colour: Any) -> Image.Image:
    image = image.copy()
    image.info["transparency"] = colour
    return image


@pytest.mark.parametrize("kind", PILLOW_IMAGES)
def test_pillow_image_of_every_mode_is_seen_as_the_png_of_the_same_picture(service: Client, kind: str) -> None:
    given, same = PILLOW_IMAGES[kind]
    seen = seen_by_the_model(service, given())
    np.testing.assert_array_equal(seen, seen_by_the_model(service, png(same())))
    assert seen.std() > 10  # neither white nor black


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (Image.new("LAB", (4, 3)), "mode LAB, which Pillow can't convert to RGB. Expected: .*ImageCms"),
        (COLOURS.convert("L").convert("I"), "mode I and values from .* to .*convert it to L"),
        (Image.fromarray(np.array([[-1, 300]], np.int32)), "mode I and values from -1 to 300"),
        (Image.fromarray(np.array([[0, 65536]], np.int32)), "mode I and values from 0 to 65536"),
        (Image.fromarray(np.array([[0.25, 0.75]], np.float32)), "mode F and values from 0.25 to 0.75.*multiply by 255"),
        (Image.fromarray(np.array([[0, 256]], np.float32)), "mode F and values from 0 to 256"),
        (Image.fromarray(np.array([[-1, 200]], np.float32)), "mode F and values from -1"),
        (Image.fromarray(np.array([[10, np.nan, 200]], np.float32)), "not all finite"),
        (Image.new("RGB", (0, 5)), "0 x 5 pixels"),
    ],
    ids=["LAB", "8 bits in I", "below 0", "above 16 bits", "0 to 1", "above 255", "below 0 in F", "NaN", "no pixels"],
)
def test_pillow_image_whose_values_have_no_meaning_is_told(image: Image.Image, words: str) -> None:
    with pytest.raises(ImageSourceError, match=words):
        encode_image(image)


@pytest.mark.parametrize("mode", ["L", "I", "F", "I;16", "RGB"])
def test_black_is_a_picture_in_every_mode(mode: str) -> None:
    assert Image.open(BytesIO(encode_image(Image.new(mode, (4, 3))).content)).size == (4, 3)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"", b"Exif\0\0II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"]
)
def test_damaged_exif_is_passed_over(exif: bytes) -> None:
    image = COLOURS.copy()
    image.info["exif"] = exif
    sent = Image.open(BytesIO(encode_image(image).content))
    assert sent.tobytes() == COLOURS.tobytes()


@both
def test_image_with_damaged_exif_does_not_end_many(server: Server, ask: Ask) -> None:
    def image() -> Image.Image:
        damaged = COLOURS.resize((64, 64))
        damaged.info["exif"] = b"Exif\0\0garbage"
        return damaged

    results = ask(server.url, "predict_many", [SHIP.file, image(), image(), SHIP.file], model="sequential")
    assert [result.error for result in results] == [None] * 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_photo_on_its_side_is_turned_once(service: Client, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = BytesIO()
    COLOURS.save(stream, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(BytesIO(stream.getvalue())) as opened:
        seen = seen_by_the_model(service, opened)
    upright = ImageOps.exif_transpose(Image.open(BytesIO(stream.getvalue())))
    np.testing.assert_array_equal(seen, seen_by_the_model(service, png(upright.convert("RGB"))))
    assert not np.array_equal(seen, SHIP.pixels)


def test_metadata_that_the_service_does_not_need_is_not_sent() -> None:
    image = COLOURS.copy()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 3, "at home"
    image.info |= {"exif": exif.tobytes(), "icc_profile": bytes(100_000)}
    sent = encode_image(image).content
    assert b"at home" not in sent
    assert len(sent) < 5000


@both
def test_images_that_change_or_close_after_they_were_taken_are_sent_as_they_were(
    server: Server, ask: Ask, tmp_path: Path
) -> None:
    files = [sample.file for sample in SAMPLES]

    def opened_for_a_moment() -> Iterator[Any]:
        for file in files:
            with Image.open(file) as image:
                yield image

    def frames() -> Iterator[Any]:
        pictures = [Image.open(file).convert("RGB") for file in files]
        pictures[0].save(tmp_path / "all.webp", save_all=True, append_images=pictures[1:], lossless=True)
        yield from ImageSequence.Iterator(Image.open(tmp_path / "all.webp"))

    def files_for_a_moment() -> Iterator[Any]:
        for file in files:
            with file.open("rb") as stream:
                yield stream

    def one_buffer() -> Iterator[Any]:
        buffer = np.zeros((32, 32, 3), np.uint8)
        for sample in SAMPLES:
            buffer[:] = sample.pixels
            yield buffer

    golden = [golden_class("sequential", sample) for sample in SAMPLES]
    for source in (opened_for_a_moment, frames, files_for_a_moment, one_buffer):
        results = ask(server.url, "predict_many", source(), model="sequential", concurrency=2)
        found = [result.prediction.class_id if result.prediction else result.error for result in results]
        assert found == golden, source.__name__


def test_image_that_two_threads_send_is_read_once() -> None:
    for _ in range(20):
        with Image.open(SHIP.file) as image, ThreadPoolExecutor(8) as threads:
            sent = list(threads.map(encode_image, [image] * 8))
        assert len({one.content for one in sent}) == 1


def test_pillow_image_of_a_photo_on_its_side_keeps_what_turns_it_upright(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SHIP.pixels).save(photo, exif=exif)
    with Image.open(photo) as opened:
        sent = encode_image(opened)
    assert Image.open(BytesIO(sent.content)).getexif()[0x0112] == 6


def test_open_file_gives_its_name(tmp_path: Path) -> None:
    with SHIP.file.open("rb") as file:
        assert encode_image(file).name == str(SHIP.file)
    assert encode_image(b"x").name is None


def closed_file() -> BytesIO:
    file = BytesIO(b"x")
    file.close()
    return file


class Reading:
    """An open file whose `read` gives or raises the same again and again."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def read(self, _size: int = -1) -> Any:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


def released() -> memoryview:
    view = memoryview(b"x")
    view.release()
    return view


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("missing.png", "there is no file missing.png"),
        (SHIP.file.parent, "is a folder. Expected: a file. What to do: pass its files to predict_many"),
        ("null\0.png", "can't be read: embedded null"),
        (StringIO("text"), "opened as text"),
        (closed_file(), "can't be read: I/O operation on closed file"),
        (np.zeros((32, 32), np.uint8), "the array is .32, 32. uint8. Expected: .height, width, 3. uint8"),
        (np.zeros((32, 32, 3)), "the array is .32, 32, 3. float64.*if 1 is white"),
        (np.zeros((32, 32, 3), bool), "bool.*if 1 is white"),
        (np.zeros((32, 32, 3), ">u2"), "uint16|>u2"),
        (np.zeros((32, 32, 3), np.int64), "int64.*astype"),
        (np.zeros((32, 32, 1), np.uint8), "the array is .32, 32, 1.*PIL.Image.fromarray"),
        (np.zeros((32, 32, 4), np.uint8), "the array is .32, 32, 4.*PIL.Image.fromarray"),
        (np.zeros((3, 32, 32), np.uint8), "the array is .3, 32, 32.*transpose"),
        (np.zeros(3072, np.uint8), "the array is .3072,. uint8"),
        (np.ma.masked_equal(np.zeros((32, 32, 3), np.uint8), 0), "masked"),
        (np.array(None, object), "object"),
        (released(), "the bytes can't be read"),
        (Reading("text"), "opened as text"),
        (Reading(7), "read.. returns a int"),
        (Reading(None), "no data yet"),
        (Reading(b""), "is empty, or was read to its end.*seek"),
        (Reading(EOFError("cut off")), "the open file can't be read: cut off"),
        ("data:image/png;base64," + "A" * 10_000, "(there is no file|can't be read).{0,300}$"),
        ("two\nlines.png", r"there is no file two\\nlines.png"),
        ("/dev/null", "/dev/null is a device"),
        (np.zeros((0, 32, 3), np.uint8), "the array is .0, 32, 3."),
        (np.zeros((8, 32, 32, 3), np.uint8), "predict_many or predict_batch"),
        (42, "an object of type int is not an image. Expected: a path, the bytes"),
    ],
)
def test_what_is_no_image_is_told_before_anything_is_sent(source: Any, words: str) -> None:
    with pytest.raises(ImageSourceError, match=words):
        encode_image(source)


def test_pillow_image_whose_file_is_broken_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(SHIP.file.read_bytes()[:500])
    with Image.open(broken) as opened, pytest.raises(ImageSourceError, match="Pillow image can't be encoded"):
        encode_image(opened)


def test_pillow_image_whose_file_is_closed_is_told() -> None:
    with Image.open(SHIP.file) as opened:
        pass
    with pytest.raises(ImageSourceError, match="Pillow image can't be encoded"):
        encode_image(opened)


def test_pillow_image_that_raises_anything_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (SyntaxError("broken"), Image.DecompressionBombError("a bomb"), struct.error("short"), EOFError()):
        image = COLOURS.copy()
        monkeypatch.setattr(image, "load", Raising(error))
        with pytest.raises(ImageSourceError, match=f"can't be encoded: ({error}|EOFError)"):
            encode_image(image)
    monkeypatch.setattr(image, "load", Raising(MemoryError()))
    with pytest.raises(ImageSourceError, match="not enough memory for a Pillow image of 32 x 32 pixels"):
        encode_image(image)


class Raising:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self) -> None:
        raise self.error


def test_file_that_is_larger_than_any_service_takes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ImageSourceError, match="more than 1,073,741,824 bytes"):
        encode_image(tmp_path / "sparse.png")


def test_endless_file_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar10_serving.client._images.MAX_FILE_BYTES", 10_000)
    with pytest.raises(ImageSourceError, match="more than 10,000 bytes"):
        encode_image(cast("Any", Reading(b"endless")))
