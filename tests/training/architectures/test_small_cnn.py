import keras
import numpy as np
import pytest

from training.architectures import ARCHITECTURES
from training.architectures.small_cnn import NORMALIZED
from training.batch_normalization import NormalizedConv2D, NormalizedDense
from training.data import CIFAR_DIMENSIONS

STYLES: list[str] = ["sequential", "functional", "subclassing"]


@pytest.mark.parametrize("name", STYLES)
def test_each_style_has_the_published_number_of_parameters_all_trainable(name: str) -> None:
    model = ARCHITECTURES[name](CIFAR_DIMENSIONS)
    assert model.count_params() == 582_026
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == 582_026


def test_each_style_is_written_in_its_style() -> None:
    sequential, functional, subclassing = (ARCHITECTURES[name](CIFAR_DIMENSIONS) for name in STYLES)
    assert isinstance(sequential, keras.Sequential)
    assert type(functional).__name__ == "Functional"
    assert type(subclassing).__mro__[1] is keras.Model
    assert [model.name for model in (sequential, functional, subclassing)] == [
        "Sequential_Model",
        "Functional_Model",
        "Sub_Classing_Model",
    ]


@pytest.mark.parametrize("name", STYLES)
def test_each_style_can_be_written_of_normalized_parts(name: str) -> None:
    plain = ARCHITECTURES[name](CIFAR_DIMENSIONS)
    normalized = ARCHITECTURES[name](CIFAR_DIMENSIONS, parts=NORMALIZED)
    assert (type(plain), plain.name) == (type(normalized), normalized.name)
    assert len(plain.layers) == len(normalized.layers)
    assert sum(isinstance(layer, NormalizedConv2D | NormalizedDense) for layer in normalized.layers) == 4
    assert normalized(np.zeros((2, 32, 32, 3), np.float32)).shape == (2, 10)


def test_one_seed_gives_the_three_styles_the_same_network() -> None:
    images = np.random.default_rng(0).random((3, 32, 32, 3), dtype=np.float32)
    answers = []
    for name in STYLES:
        keras.utils.set_random_seed(83)
        answers.append(np.asarray(ARCHITECTURES[name](CIFAR_DIMENSIONS)(images)))
    assert answers[0].shape == (3, 10)
    assert answers[0].sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert np.allclose(answers[0], answers[1], atol=1e-6)
    assert np.allclose(answers[0], answers[2], atol=1e-6)
