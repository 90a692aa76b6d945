"""Damaged files of every format are the client's error, whatever their structure claims."""

import random
import struct

import pytest

from scripts.attack.files import DAMAGES, FORMATS, MODES, whole
from service.errors import RequestError, UndecodableError
from service.images.encoded import EncodedImage

FILES = 3000
MAX_PIXELS = 50_000_000
WIDTH, HEIGHT, BITS, STRIP_OFFSETS = 256, 257, 258, 273
SHORT, LONG, LONG_8 = 3, 4, 16


def tiff(*tags: tuple[int, int, int, int]) -> bytes:
    """A TIFF of one directory: tag, type, count and value of each."""
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + b"".join(struct.pack("<HHLL", *tag) for tag in tags) + bytes(4)


@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_files_are_read_or_are_the_clients_error(kind: str) -> None:
    draw = random.Random(kind)  # noqa: S311  # repeatable, on purpose
    decoded = 0
    for _ in range(FILES):
        content = whole(kind, draw.choice(MODES[kind]), draw.choice((1, 32)))
        start = draw.randrange(min(len(content), draw.choice((64, 300, len(content)))))
        damage = DAMAGES[draw.choice(list(DAMAGES))]
        content = damage(draw, bytearray(content), start, min(len(content), start + draw.randint(1, 16)))
        try:
            EncodedImage(content, (32, 32, 3), max_pixels=MAX_PIXELS)
        except RequestError:
            continue
        decoded += 1
    assert decoded < FILES


@pytest.mark.parametrize("tag", [WIDTH, HEIGHT, BITS, STRIP_OFFSETS])
def test_tag_of_a_tiff_without_numbers_is_damage(tag: int) -> None:
    tags = {WIDTH: (SHORT, 1, 4), HEIGHT: (SHORT, 1, 4), BITS: (SHORT, 1, 8), STRIP_OFFSETS: (LONG, 1, 8)}
    tags[tag] = (SHORT, 0, 0)
    with pytest.raises(UndecodableError, match="has no numbers"):
        EncodedImage(tiff(*((name, *entry) for name, entry in tags.items())), (32, 32, 3), max_pixels=MAX_PIXELS)


def test_directory_of_a_big_tiff_beyond_any_file_is_damage() -> None:
    with pytest.raises(UndecodableError, match="truncated"):
        EncodedImage(b"II+\0\x08\0\0\0" + b"\xff" * 8, (32, 32, 3), max_pixels=MAX_PIXELS)
