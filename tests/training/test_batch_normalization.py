from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from training.batch_normalization import (
    FusedBatchNormalization,
    NormalizedConv2D,
    NormalizedDense,
    after_convolutions,
    fold,
)

pytestmark = pytest.mark.slow


def images(seed: int, size: int = 16) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(size, 8, 8, 3)).astype(np.float32)


def plain_network() -> Any:
    keras.utils.set_random_seed(7)
    inputs = layers.Input((8, 8, 3))
    first = layers.Conv2D(6, 3, activation="relu", padding="same", name="first")(inputs)
    second = layers.Conv2D(4, 3, activation="relu", padding="same", name="second")(layers.MaxPooling2D()(first))
    return keras.Model(inputs, second, name="plain")


def test_fused_layer_trains_as_keras_own() -> None:
    pixels = images(1)
    fused, keras_own = FusedBatchNormalization(), layers.BatchNormalization()
    np.testing.assert_allclose(fused(pixels, training=True), keras_own(pixels, training=True), atol=1e-4)
    np.testing.assert_allclose(fused.moving_mean, keras_own.moving_mean, atol=1e-6)
    # The fused kernel's variance is that of n - 1 of the 16 * 8 * 8 positions.
    np.testing.assert_allclose(fused.moving_variance, keras_own.moving_variance, rtol=1.1 / (16 * 8 * 8))


def test_fused_layer_answers_as_keras_own_and_keeps_still_when_frozen() -> None:
    fused, keras_own = FusedBatchNormalization(), layers.BatchNormalization()
    fused(images(1), training=True)
    keras_own(images(1))
    keras_own.set_weights(fused.get_weights())
    np.testing.assert_allclose(fused(images(2)), keras_own(images(2)), atol=1e-5)
    fused.trainable = False
    before = fused.get_weights()
    fused(images(3), training=True)
    for kept, now in zip(before, fused.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, now)


def test_folded_network_answers_as_the_normalized_one_it_was_trained_as() -> None:
    plain = plain_network()
    normalized = after_convolutions(plain)
    normalized.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    normalized.fit(images(1, 64), np.ones((64, 4, 4, 4), np.float32), epochs=3, batch_size=16, verbose=0)
    assert np.abs(normalized.get_layer("second_normalization").moving_mean).max() > 0.01
    fold(normalized, plain)
    np.testing.assert_allclose(plain(images(2)), normalized(images(2)), atol=1e-5)
    assert plain.count_params() == plain_network().count_params()


@pytest.mark.parametrize("pool_size", [1, 2])
def test_normalized_convolution_folds_into_a_plain_one_before_pooling(pool_size: int) -> None:
    keras.utils.set_random_seed(7)
    normalized = NormalizedConv2D(6, pool_size=pool_size)
    pixels = images(1)
    for _ in range(300):
        normalized(pixels, training=True)
    normalized.normalization.beta.assign(np.linspace(-1, 1, 6))
    assert np.abs(normalized.normalization.moving_mean).max() > 0.01
    plain = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(6, 3, activation="relu", padding="same"), layers.MaxPooling2D(pool_size)]
    )
    plain.layers[0].set_weights(normalized.folded_weights())
    answers = np.asarray(normalized(images(2)))
    assert answers.shape == normalized.compute_output_shape((16, 8, 8, 3))
    assert (answers > 0).any()
    np.testing.assert_allclose(plain(images(2)), answers, atol=1e-5)


def test_normalized_convolution_normalizes_what_it_pooled() -> None:
    normalized = NormalizedConv2D(6, pool_size=2)
    normalized.build((None, 8, 8, 3))
    normalized.normalization.beta.assign(np.full(6, 10))  # so that ReLU cuts nothing off
    answers = np.asarray(normalized(images(1, 64), training=True))
    np.testing.assert_allclose(answers.mean(axis=(0, 1, 2)), 10, atol=1e-3)
    np.testing.assert_allclose(answers.std(axis=(0, 1, 2)), 1, atol=1e-2)


def test_normalized_dense_layer_folds_into_a_plain_one() -> None:
    keras.utils.set_random_seed(7)
    features = np.random.default_rng(1).normal(2, 3, (64, 12)).astype(np.float32)
    normalized = NormalizedDense(5)
    for _ in range(300):
        normalized(features, training=True)
    plain = layers.Dense(5, activation="relu")
    plain.build((None, 12))
    plain.set_weights(normalized.folded_weights())
    np.testing.assert_allclose(plain(features), normalized(features), atol=1e-4)
