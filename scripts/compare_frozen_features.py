"""Compare the training time of VGG16 by our tutorial recipe, with cached features, and by the tutorial's own code.

    python -m scripts.compare_frozen_features FOLDER --images 5000      FOLDER holds the official CIFAR-10

The backbone's weights are drawn from the seed, since their values don't affect the time. Plain Keras runs twice: with
its default, XLA on, and with XLA off like our recipe. The speed-up is relative to the faster one.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import layers

from training.data import Split, load_cifar10, split_validation
from training.fit import fit
from training.recipes import Recipe, get_recipe, with_backbone_weights


def main() -> None:
    """Print the seconds of each, including building and compiling, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--images", type=int, default=50_000, help="training images, a fifth of which validate")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    data = load_cifar10(arguments.folder)
    data = replace(data, train=data.train.take(np.arange(arguments.images)))
    recipe = with_backbone_weights(get_recipe("tutorial", "vgg16"), "none").model_copy(
        update={"epochs": arguments.epochs}
    )
    print(f"VGG16, {len(data.train):,} images, {recipe.epochs} epochs", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        ours_s = _timed("features computed once", lambda: fit(recipe, data, features_folder=Path(folder)))
    plain_s = [
        _timed(
            f"plain Keras, jit_compile={jit_compile!r}", lambda chosen=jit_compile: plain(recipe, data.train, chosen)
        )
        for jit_compile in (False, "auto")
    ]
    print(f"{min(plain_s) / ours_s:.1f} times as fast as the faster plain one")


def plain(recipe: Recipe, train: Split, jit_compile: bool | str) -> None:
    """Run the tutorial's own code: a frozen backbone in the model, arrays passed to `fit`."""
    training, validation = split_validation(train, fraction=recipe.validation_fraction, seed=recipe.split_seed)
    backbone = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    backbone.trainable = False
    model = keras.Sequential(
        [
            backbone,
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=jit_compile)
    model.fit(
        training.pixels / np.float32(255),
        training.labels,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        validation_data=(validation.pixels / np.float32(255), validation.labels),
        verbose=0,
    )


def _timed(what: str, run: Any) -> float:
    start_s = time.monotonic()
    run()
    duration_s = time.monotonic() - start_s
    print(f"{what:<36} {duration_s:8.1f} s", flush=True)
    return duration_s


if __name__ == "__main__":
    main()
