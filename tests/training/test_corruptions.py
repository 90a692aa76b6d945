import numpy as np
import pytest

from cifar10_serving.runtimes.base import Images
from training.corruptions import CORRUPTIONS, STRENGTHS, Corruption
from training.data import Split

NAMED = pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.name)


def distance(one: Images, other: Images) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


@NAMED
def test_each_strength_spoils_more_and_the_same_way_each_time(corruption: Corruption, golden_split: Split) -> None:
    images = golden_split.pixels
    spoilt = [corruption.apply(images, strength) for strength in STRENGTHS]
    assert all(result.dtype == np.uint8 and result.shape == images.shape for result in spoilt)
    distances = [distance(result, images) for result in spoilt]
    assert 0 < distances[0] < distances[1] < distances[2]
    assert np.array_equal(spoilt[1], corruption.apply(images, 2))


def test_noise_has_the_deviation_that_it_says(golden_split: Split) -> None:
    grey = np.full((64, 32, 32, 3), 128, np.uint8)
    (noise,) = [corruption for corruption in CORRUPTIONS if corruption.name == "noise"]
    for strength, deviation in zip(STRENGTHS, noise.parameters, strict=True):
        assert noise.apply(grey, strength).std() / 255 == pytest.approx(deviation, rel=0.02)


def test_contrast_keeps_the_mean_and_leaves_its_share_of_the_deviation() -> None:
    images = np.zeros((1, 32, 32, 3), np.uint8)
    images[:, ::2] = 200
    (contrast,) = [corruption for corruption in CORRUPTIONS if corruption.name == "contrast"]
    pale = contrast.apply(images, 2)
    assert set(np.unique(pale)) == {60, 140}


def test_blur_and_jpeg_leave_a_plain_picture_about_as_it_is() -> None:
    grey = np.full((2, 32, 32, 3), 77, np.uint8)
    for corruption in CORRUPTIONS:
        if corruption.name in {"blur", "jpeg"}:
            assert distance(corruption.apply(grey, 3), grey) <= 1
