import keras
import numpy as np
import pytest

from training.data import Split
from training.preprocessing import SCALINGS, scale, scale_in_graph
from training.recipes.recipe import InputScaling


@pytest.mark.parametrize("scaling", list(SCALINGS))
def test_graph_and_numpy_agree(scaling: InputScaling, golden_split: Split) -> None:
    images = golden_split.images[:4]
    assert scale(images, scaling) == pytest.approx(np.asarray(scale_in_graph(images, scaling)), abs=1e-6)
    assert scale(images, scaling).dtype == np.float32


def test_divide_by_255_is_exactly_that(golden_split: Split) -> None:
    expected = golden_split.pixels.astype(np.float32) / np.float32(255)
    assert np.array_equal(scale(golden_split.pixels, "divide_by_255"), expected)


@pytest.mark.parametrize(
    ("scaling", "application"),
    [
        ("minus_one_to_one", keras.applications.mobilenet_v2),
        ("minus_one_to_one", keras.applications.resnet_v2),
        ("bgr_minus_imagenet_mean", keras.applications.vgg16),
    ],
)
def test_scalings_of_imagenet_weights_are_what_keras_applies(
    scaling: InputScaling, application: object, golden_split: Split
) -> None:
    expected = application.preprocess_input(golden_split.pixels.astype(np.float32))  # type: ignore[attr-defined]
    assert scale(golden_split.pixels, scaling) == pytest.approx(expected, abs=1e-4)


def test_standardized_images_have_about_no_mean_and_a_deviation_of_one(golden_split: Split) -> None:
    pixels = scale(golden_split.pixels, "standardize")
    assert pixels.mean(axis=(0, 1, 2)) == pytest.approx(np.zeros(3), abs=0.3)
    assert pixels.std(axis=(0, 1, 2)) == pytest.approx(np.ones(3), abs=0.3)
