import keras
import numpy as np
import pytest

from training.architectures.transfer import BACKBONES, backbone_of, divide, transfer_model
from training.cifar10 import TUTORIAL_RESULTS
from training.data import CIFAR_DIMENSIONS

TRANSFER_MODELS: list[str] = ["vgg16", "mobilenetv2", "resnet50v2"]

pytestmark = pytest.mark.slow


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


@pytest.mark.parametrize("name", TRANSFER_MODELS)
def test_backbone_is_the_one_of_keras_applications_and_parameters_are_the_published_ones(name: str) -> None:
    keras.utils.clear_session()  # Keras numbers layers without a name through the process
    model = transfer_model(name, CIFAR_DIMENSIONS)
    ours = backbone_of(model)
    keras.utils.clear_session()
    original = BACKBONES[name](include_top=False, weights=None, input_shape=(32, 32, 3))
    assert [layer.name for layer in ours.layers][1:] == [layer.name for layer in original.layers][1:]
    assert [layer.get_config() for layer in ours.layers][1:] == [layer.get_config() for layer in original.layers][1:]
    published = TUTORIAL_RESULTS[name]
    assert model.count_params() == published.parameters
    ours.trainable = False
    assert trainable(model) == published.trainable


def test_head_is_the_tutorials() -> None:
    head = transfer_model("vgg16", CIFAR_DIMENSIONS).layers[-4:]
    assert isinstance(head[0], keras.layers.Flatten)
    assert [(layer.units, layer.activation.__name__) for layer in head[1:]] == [
        (128, "relu"),
        (64, "relu"),
        (10, "softmax"),
    ]


def test_upsampling_is_part_of_the_graph_and_keeps_every_parameter() -> None:
    model = transfer_model("mobilenetv2", CIFAR_DIMENSIONS, upsample_to=64)
    assert model.input_shape == (None, 32, 32, 3)
    assert backbone_of(model).input_shape == (None, 64, 64, 3)
    assert model.count_params() == TUTORIAL_RESULTS["mobilenetv2"].parameters
    probabilities = np.asarray(model(np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)))
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(2), abs=1e-5)


def test_both_parts_together_answer_as_the_whole() -> None:
    images = np.random.default_rng(0).random((3, 32, 32, 3), dtype=np.float32)
    model = transfer_model("mobilenetv2", CIFAR_DIMENSIONS)
    backbone, head = divide(model)
    assert backbone.output_shape == (None, 1280)
    assert np.asarray(head(backbone(images))) == pytest.approx(np.asarray(model(images)), abs=1e-6)
    assert head.count_params() == TUTORIAL_RESULTS["mobilenetv2"].trainable
