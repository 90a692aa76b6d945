"""Show the order of the images in two epochs, for Keras' `fit` on arrays after `set_random_seed` and for ours.

python -m scripts.show_data_order
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from training.batches import epoch_order

IMAGES = 12
EPOCHS = 2
SEED = 83


class OrderRecorder(keras.Model):  # type: ignore[misc]  # keras has no type information
    """Records the targets of each training step, which are the images' indices here."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = keras.layers.Dense(1)
        self.orders: list[list[int]] = []

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Compute an arbitrary output."""
        return self.layer(inputs)

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Record the targets, then train as usual."""
        self.orders.append([int(position) for position in data[1].numpy()])
        step: dict[str, tf.Tensor] = super().train_step(data)
        return step


def main() -> None:
    """Print two epochs of both."""
    keras.utils.set_random_seed(SEED)
    recorder = OrderRecorder()
    recorder.compile("sgd", "mse", run_eagerly=True)
    positions = np.arange(IMAGES, dtype=np.float32)
    recorder.fit(np.zeros((IMAGES, 1), np.float32), positions, batch_size=IMAGES, epochs=EPOCHS)
    print(f"Keras {keras.__version__}, fit on arrays, shuffle=True, after set_random_seed({SEED}):")
    for epoch, order in enumerate(recorder.orders, start=1):
        print(f"  epoch {epoch}: {order}")
    print(f"this project, training.batches, seed {SEED}:")
    for epoch in range(EPOCHS):
        print(f"  epoch {epoch + 1}: {epoch_order(SEED, epoch, IMAGES).tolist()}")


if __name__ == "__main__":
    main()
