"""The frames in an AVIF may be larger and more numerous than its boxes say; a decoder decodes them anyway."""

import re
import struct

import pytest
from PIL import Image

from service.errors import TooLargeError, UndecodableError
from service.images.encoded import EncodedImage
from service.images.formats.av1 import MAX_UNITS, frame_sizes
from service.images.formats.reading import read_image_file
from tests.service.images.formats.files import MAX_PIXELS, encode, noise

AVIF = encode(noise(), "AVIF")
FRAMES = [noise(mode=mode) for mode in ("RGB", "RGBA")]
FILM = encode(FRAMES[1], "AVIF", save_all=True, append_images=[FRAMES[1].rotate(angle) for angle in (10, 20, 30)])


def unit(kind: int, payload: bytes) -> bytes:
    return bytes([kind << 3 | 2, len(payload)]) + payload


def from_bits(*numbers: tuple[int, int]) -> bytes:
    """Numbers, each with its count of bits."""
    text = "".join(f"{value:0{count}b}" for value, count in numbers)
    return int(text + "0" * (-len(text) % 8 + 64), 2).to_bytes((len(text) + 7) // 8 + 8)


SIZE = ((15, 4), (15, 4), (299, 16), (199, 16))
PICTURE = unit(1, from_bits((0, 3), (1, 1), (1, 1), (0, 5), *SIZE))
SEQUENCE = unit(1, from_bits((0, 3), (0, 2), (0, 1), (0, 1), (0, 5), (0, 12), (0, 5), *SIZE, (0, 1), (0, 7), (0, 1), (1, 1), (1, 1)))  # fmt: skip # noqa: E501


def with_boxes_that_say(content: bytes, width: int, height: int) -> bytes:
    return re.sub(
        rb"(ispe\0{4})(.{8})", lambda match: match[1] + struct.pack(">II", width, height), content, flags=re.DOTALL
    )


def with_frames(content: bytes, count: int) -> bytes:
    """The AVIF with its one item's data several times over."""
    start = content.index(b"mdat") + 4
    data = content[start:]
    assert content.count(struct.pack(">I", len(data))) == 1
    return content[:start].replace(struct.pack(">I", len(data)), struct.pack(">I", len(data) * count)) + data * count


def test_size_is_that_of_the_frame_whatever_the_boxes_say() -> None:
    file = read_image_file(with_boxes_that_say(AVIF, 8, 8), max_pixels=MAX_PIXELS, draft_side=32)
    assert (file.width, file.height) == (64, 48)
    with pytest.raises(TooLargeError, match="64 x 48 = 3,072 pixels"):
        EncodedImage(with_boxes_that_say(AVIF, 8, 8), (32, 32, 3), max_pixels=3071)


def test_frames_that_are_kept_count_as_memory() -> None:
    one, three = (EncodedImage(with_frames(AVIF, count), (32, 32, 3), max_pixels=MAX_PIXELS) for count in (1, 3))
    assert three.decode_bytes - one.decode_bytes >= 3 * 64 * 48


def test_more_frames_for_one_picture_than_any_program_writes_are_rejected() -> None:
    with pytest.raises(TooLargeError, match="more than 16 frames for one picture"):
        EncodedImage(with_frames(AVIF, 17), (32, 32, 3), max_pixels=MAX_PIXELS)


def test_only_the_first_frame_of_a_film_counts() -> None:
    long = encode(FRAMES[0], "AVIF", save_all=True, append_images=[FRAMES[0].rotate(angle) for angle in range(40)])
    for content in (FILM, long):
        file = read_image_file(content, max_pixels=MAX_PIXELS, draft_side=32)
        assert (file.width, file.height) == (64, 48)


@pytest.mark.parametrize("side", [1, 31, 257])
def test_odd_sizes_are_read(side: int) -> None:
    content = encode(Image.new("RGBA", (side, 2 * side), "#12345678"), "AVIF")
    file = read_image_file(content, max_pixels=MAX_PIXELS, draft_side=32)
    assert (file.width, file.height) == (side, 2 * side)


def test_frame_that_says_its_own_size_may_have_any_that_its_numbers_hold() -> None:
    shown_key_frame = ((0, 1), (0, 2), (1, 1), (0, 1), (0, 1))
    assert list(frame_sizes(PICTURE + unit(6, b"\0" * 9))) == [(300, 200)]
    assert list(frame_sizes(SEQUENCE + unit(6, from_bits(*shown_key_frame, (0, 1))))) == [(300, 200)]
    assert list(frame_sizes(SEQUENCE + unit(6, from_bits(*shown_key_frame, (1, 1))))) == [(65_536, 65_536)]


def test_frame_that_is_only_shown_again_is_none() -> None:
    assert list(frame_sizes(SEQUENCE + unit(3, b"\xff"))) == []


def test_units_are_bounded() -> None:
    with pytest.raises(TooLargeError, match="10,000 parts of data"):
        list(frame_sizes(unit(2, b"") * (MAX_UNITS + 1)))
    with pytest.raises(UndecodableError, match="no size"):
        list(frame_sizes(b"\x0a" + b"\xff" * 20))
    assert list(frame_sizes(b"")) == []
