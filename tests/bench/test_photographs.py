import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from bench.loads import LOADS
from bench.photographs import Format, Photograph, photographs
from bench.uploads import golden
from cifar10_serving.artifacts.layout import version_folder
from tests.conftest import MODELS, newest_version

VERSION = version_folder(MODELS, "sequential", newest_version("sequential"))


@pytest.fixture(scope="module")
def found() -> list[Photograph]:
    form = LOADS["photo"].photographs
    assert form == Format(640, 480, 48_000)
    return photographs(VERSION, form, 8)


def test_photographs_have_the_size_and_the_file_size_of_a_photograph(found: list[Photograph]) -> None:
    assert len({photograph.upload.content for photograph in found}) == 8
    for photograph in found:
        with Image.open(io.BytesIO(photograph.upload.content)) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (640, 480), "RGB")
        assert len(photograph.upload.content) == pytest.approx(48_000, rel=0.03)


def test_a_photograph_scaled_back_is_nearest_to_its_golden_image(found: list[Photograph]) -> None:
    images, probabilities = golden(VERSION)
    for photograph in found:
        with Image.open(io.BytesIO(photograph.upload.content)) as image:
            pixels = np.asarray(ImageOps.fit(image, (32, 32)), np.int16)
        nearest = int(np.abs(images - pixels).mean(axis=(1, 2, 3)).argmin())
        assert int(probabilities[nearest].argmax()) == photograph.class_id
        assert probabilities[nearest].max() >= 0.95


def test_photographs_are_the_same_in_each_run(found: list[Photograph]) -> None:
    assert photographs(VERSION, Format(640, 480, 48_000), 2) == found[:2]


def test_images_of_which_the_version_is_not_sure_are_left_out(tmp_path: Path) -> None:
    images, probabilities = golden(VERSION)
    np.savez(tmp_path / "golden.npz", images=images[:2], probabilities=probabilities[:2] * np.array([[1], [0.5]]))
    sure = probabilities[0].max() >= 0.95
    assert len(photographs(tmp_path, Format(160, 120, 8_000), 40)) == int(sure)
