"""Measure the training rate of the sequential model with and without XLA, on random images.

python -m scripts.compare_jit_compile
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from training.build import build, compile_for_training
from training.data import CIFAR_DIMENSIONS
from training.recipes import Recipe, get_recipe

BATCH = 128
IMAGES = BATCH * 60
ROUNDS = 5


def main() -> None:
    """Print both median rates over alternating rounds, and the ratio."""
    generator = np.random.default_rng(0)
    images = generator.random((IMAGES, 32, 32, 3), dtype=np.float32)
    labels = generator.integers(0, 10, IMAGES)
    models = {}
    for jit_compile in (False, True):
        models[jit_compile] = build(recipe(jit_compile=jit_compile), CIFAR_DIMENSIONS)
        compile_for_training(models[jit_compile], recipe(jit_compile=jit_compile), train_n=IMAGES)
    rates: dict[bool, list[float]] = {False: [], True: []}
    for round_number in range(ROUNDS + 1):
        for jit_compile, model in models.items():
            start_s = time.monotonic()
            model.fit(images, labels, batch_size=BATCH, epochs=1)
            if round_number > 0:  # the first round compiles
                rates[jit_compile].append(IMAGES / (time.monotonic() - start_s))
    without, with_xla = (float(np.median(rates[jit_compile])) for jit_compile in (False, True))
    ratio = without / with_xla
    print(f"jit_compile=False: {without:,.0f} images/s, jit_compile=True: {with_xla:,.0f} images/s, {ratio:.2f} times")


def recipe(*, jit_compile: bool) -> Recipe:
    """Return the tutorial recipe with or without XLA."""
    return get_recipe("tutorial", "sequential").model_copy(update={"jit_compile": jit_compile})


if __name__ == "__main__":
    main()
