import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from training.cifar10 import CLASS_NAMES
from training.data import Split
from training.errors import PictureError
from training.sample_images import write_sample_images


def test_svg_shows_the_first_25_images_with_their_names(tmp_path: Path, golden_split: Split) -> None:
    write_sample_images(golden_split, CLASS_NAMES, tmp_path / "one.svg")
    write_sample_images(golden_split, CLASS_NAMES, tmp_path / "two.svg")
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert len(list(ET.fromstring(text).iter("{http://www.w3.org/2000/svg}image"))) == 25  # noqa: S314
    assert "<!-- cat -->" in text
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")


def test_png_by_the_suffix(tmp_path: Path, golden_split: Split) -> None:
    write_sample_images(golden_split, CLASS_NAMES, tmp_path / "one.PNG")
    with Image.open(tmp_path / "one.PNG") as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize("name", ["pictures.pdf", "pictures"])
def test_other_suffixes_are_rejected(tmp_path: Path, golden_split: Split, name: str) -> None:
    with pytest.raises(PictureError, match=r"Expected: a file name ending in \.svg or \.png"):
        write_sample_images(golden_split, CLASS_NAMES, tmp_path / name)


def test_place_that_can_not_be_written_to_is_a_clear_error(tmp_path: Path, golden_split: Split) -> None:
    with pytest.raises(PictureError, match="can't write"):
        write_sample_images(golden_split, CLASS_NAMES, tmp_path / "absent/pictures.svg")
