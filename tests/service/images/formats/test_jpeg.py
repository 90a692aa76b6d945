from io import BytesIO

import pytest
from PIL import Image

from service.errors import UndecodableError
from service.images.formats.jpeg import count_scans
from tests.service.images.formats.files import decode


def jpeg(*, progressive: bool) -> bytes:
    stream = BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(stream, "JPEG", progressive=progressive)
    return stream.getvalue()


@pytest.mark.parametrize(("progressive", "scans"), [(False, 1), (True, 10)])
def test_scans_of_an_honest_file(progressive: bool, scans: int) -> None:
    assert count_scans(jpeg(progressive=progressive), most_segments=1000) == scans


def test_scan_within_a_segment_or_behind_the_end_does_not_count() -> None:
    content = jpeg(progressive=False)
    hidden = b"\xff\xda\x00\x02" * 50
    comment = b"\xff\xfe" + (len(hidden) + 2).to_bytes(2) + hidden
    assert count_scans(content[:2] + comment + content[2:] + hidden, most_segments=1000) == 1


@pytest.mark.parametrize("fill", [b"", b"\xff\xff"])
def test_repeated_scans_count_with_and_without_fill_bytes(fill: bytes) -> None:
    content = jpeg(progressive=True)
    start = content.rindex(b"\xff\xda")
    repeated = content[:start] + (fill + content[start:-2]) * 40 + content[-2:]
    assert count_scans(repeated, most_segments=1000) == 49


@pytest.mark.parametrize("content", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xda", b"no marker"])
def test_cut_off_files_end_the_walk(content: bytes) -> None:
    assert count_scans(content, most_segments=1000) in {0, 1}


def test_walk_is_bounded_and_says_so() -> None:
    scans = b"\xff\xda\x00\x02" * 100
    assert count_scans(scans, most_segments=101) == 100
    assert count_scans(b"\xff\xfe\x00\x02" * 1000 + scans, most_segments=1000) is None


@pytest.mark.parametrize("missing", [3, 10, 100, 1000])
def test_pixels_that_are_missing_are_damage(missing: int) -> None:
    with pytest.raises(UndecodableError, match="cut off"):
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
