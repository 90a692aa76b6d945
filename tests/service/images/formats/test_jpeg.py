from io import BytesIO
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from service.errors import RequestError, UndecodableError
from service.images.formats.jpeg import count_scans
from tests.service.images.formats.files import decode, encode, noise


def jpeg(*, progressive: bool) -> bytes:
    stream = BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(stream, "JPEG", progressive=progressive)
    return stream.getvalue()


@pytest.mark.parametrize(("progressive", "scans"), [(False, 1), (True, 10)])
def test_scans_of_an_honest_file(progressive: bool, scans: int) -> None:
    assert count_scans(jpeg(progressive=progressive), max_segments=1000) == scans


def test_scan_within_a_segment_or_behind_the_end_does_not_count() -> None:
    content = jpeg(progressive=False)
    hidden = b"\xff\xda\x00\x02" * 50
    comment = b"\xff\xfe" + (len(hidden) + 2).to_bytes(2) + hidden
    assert count_scans(content[:2] + comment + content[2:] + hidden, max_segments=1000) == 1


@pytest.mark.parametrize("fill", [b"", b"\xff\xff"])
def test_repeated_scans_count_with_and_without_fill_bytes(fill: bytes) -> None:
    content = jpeg(progressive=True)
    start = content.rindex(b"\xff\xda")
    repeated = content[:start] + (fill + content[start:-2]) * 40 + content[-2:]
    assert count_scans(repeated, max_segments=1000) == 49


@pytest.mark.parametrize("content", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xda", b"no marker"])
def test_cut_off_files_end_the_walk(content: bytes) -> None:
    assert count_scans(content, max_segments=1000) in {0, 1}


def test_walk_is_bounded_and_says_so() -> None:
    scans = b"\xff\xda\x00\x02" * 100
    assert count_scans(scans, max_segments=101) == 100
    assert count_scans(b"\xff\xfe\x00\x02" * 1000 + scans, max_segments=1000) is None


@pytest.mark.parametrize("missing", [3, 10, 100, 1000])
def test_pixels_that_are_missing_are_damage(missing: int) -> None:
    with pytest.raises(UndecodableError, match="truncated"):
        decode(jpeg(progressive=False)[: -2 - missing])


def test_a_progressive_file_without_an_end_may_lack_a_scan() -> None:
    with pytest.raises(UndecodableError, match="truncated"):
        decode(jpeg(progressive=True)[:-2])


@pytest.mark.parametrize(("marker", "bits"), [(0xC1, 12), (0xC3, 16), (0xC5, 8)])
def test_a_rare_kind_is_named(marker: int, bits: int) -> None:
    content = bytearray(jpeg(progressive=False))
    start = content.index(b"\xff\xc0")
    content[start + 1], content[start + 4] = marker, bits
    with pytest.raises(UndecodableError, match=f"a JPEG with {bits} bits"):
        decode(bytes(content))


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("RGB", {"subsampling": "4:4:4", "quality": 95}),
    ("RGB", {"subsampling": "4:2:2", "quality": 30}),
    ("RGB", {"subsampling": "4:2:0", "progressive": True}),
    ("RGB", {"keep_rgb": True}),
    ("RGB", {"restart_marker_blocks": 1}),
    ("L", {}),
    ("L", {"progressive": True}),
    ("CMYK", {"quality": 90}),
]


def outcome(content: bytes) -> bytes | str:
    try:
        return decode(content).tobytes()
    except RequestError as error:
        return str(error)


def by_pillow_alone(content: bytes) -> bytes | str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simplejpeg, "decode_jpeg_header", Mock(side_effect=ValueError("left to Pillow")))
        return outcome(content)


def flipped_bit(content: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(content)
    changed[random.integers(2, len(content))] ^= 1 << int(random.integers(8))
    return bytes(changed)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (1, 1), (128, 128), (16, 900), (129, 128), (640, 480)])
@pytest.mark.parametrize(("mode", "options"), KINDS, ids=str)
def test_pixels_are_pillows(mode: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    content = encode(noise(*size, mode), "JPEG", **options)
    image = Image.open(BytesIO(content))
    image.draft(None, (32, 32))
    left, top = (image.width - min(image.size)) // 2, (image.height - min(image.size)) // 2
    square = (left, top, left + min(image.size), top + min(image.size))
    expected = (image.convert("RGB") if mode == "CMYK" else image).resize((32, 32), Image.Resampling.BICUBIC, square)
    assert np.array_equal(decode(content), np.asarray(expected.convert("RGB")))


@pytest.mark.parametrize(("mode", "options"), KINDS, ids=str)
def test_damaged_small_file_is_what_pillow_makes_of_it(mode: str, options: dict[str, Any]) -> None:
    content = encode(noise(40, 30, mode), "JPEG", **options)
    random = np.random.default_rng(3)
    cut_off = [content[:length] for length in range(2, len(content), 40)]
    for file in cut_off + [flipped_bit(content, random) for _ in range(60)]:
        assert outcome(file) == by_pillow_alone(file)
