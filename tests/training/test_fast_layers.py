import keras
import numpy as np
import pytest

from training.batch_normalization import MOMENTUM, FusedBatchNormalization
from training.fast_layers import PointwiseConvolution, ShiftedDepthwiseConvolution, with_fast_layers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def networks() -> tuple[keras.Model, keras.Model]:
    """MobileNetV2's backbone as Keras builds it, and the fast one with the same weights."""
    keras.utils.set_random_seed(7)
    plain = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg")
    for layer in plain.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = MOMENTUM
    fast = with_fast_layers(plain)
    fast.set_weights(plain.get_weights())
    return plain, fast


def test_fast_network_is_made_of_the_fast_layers(networks: tuple[keras.Model, keras.Model]) -> None:
    plain, fast = networks
    assert fast.name == plain.name
    assert [layer.name for layer in fast.layers[1:]] == [layer.name for layer in plain.layers[1:]]
    kinds = [type(layer) for layer in fast.layers]
    assert keras.layers.BatchNormalization not in kinds
    assert keras.layers.ZeroPadding2D not in kinds
    assert kinds.count(FusedBatchNormalization) == 52
    assert {layer.momentum for layer in fast.layers if isinstance(layer, FusedBatchNormalization)} == {MOMENTUM}
    assert kinds.count(PointwiseConvolution) == 34
    assert fast.count_params() == plain.count_params()


def test_fast_network_trains_and_answers_as_the_plain_one(networks: tuple[keras.Model, keras.Model]) -> None:
    plain, fast = networks
    random = np.random.default_rng(3)
    images = random.normal(size=(8, 64, 64, 3)).astype(np.float32)
    targets = random.normal(size=(8, 1280)).astype(np.float32)
    for network in networks:
        network.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse", run_eagerly=True)  # quicker than tracing it
        network.train_on_batch(images, targets)
    for of_plain, of_fast in zip(plain.get_weights(), fast.get_weights(), strict=True):
        # A tenth of the variance of n - 1 instead of n positions, which at the end are 8 * 2 * 2.
        np.testing.assert_allclose(of_fast, of_plain, rtol=1e-2, atol=5e-3)
    np.testing.assert_allclose(fast(images), plain(images), atol=1e-2)


def test_padding_that_another_layer_needs_stays() -> None:
    images = keras.Input((8, 8, 3))
    padded = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name="padding")(images)
    network = keras.Model(images, keras.layers.Conv2D(4, 3, strides=2, name="convolution")(padded))
    fast = with_fast_layers(network)
    fast.set_weights(network.get_weights())
    pixels = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(fast(pixels), network(pixels), atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("side", [7, 8])
def test_shifted_depthwise_convolution_is_keras_own(stride: int, padding: str, side: int) -> None:
    options = {"strides": stride, "padding": padding, "activation": "relu"}
    plain, shifted = keras.layers.DepthwiseConv2D(3, **options), ShiftedDepthwiseConvolution(3, **options)
    random = np.random.default_rng(5)
    pixels = random.normal(size=(2, side, side, 5)).astype(np.float32)
    weights = [random.normal(size=(3, 3, 5, 1)), random.normal(size=5)]
    for layer in (plain, shifted):
        layer.build(pixels.shape)
        layer.set_weights(weights)
    np.testing.assert_allclose(shifted(pixels), plain(pixels), atol=1e-5)
