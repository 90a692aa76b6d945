"""Measures the training rate of the sequential model with and without XLA, on made-up images.

python -m scripts.compare_jit_compile
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from training.fit import build
from training.recipes import get_recipe

BATCH = 128
IMAGES = BATCH * 60
EPOCHS = 2


def main() -> None:
    """Print images per second of both."""
    generator = np.random.default_rng(0)
    images = generator.random((IMAGES, 32, 32, 3), dtype=np.float32)
    labels = generator.integers(0, 10, IMAGES)
    for jit_compile in (False, True):
        model = build(get_recipe("tutorial", "sequential").model_copy(update={"jit_compile": jit_compile}))
        model.fit(images, labels, batch_size=BATCH, epochs=1, verbose=0)
        start_s = time.monotonic()
        model.fit(images, labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
        rate = EPOCHS * IMAGES / (time.monotonic() - start_s)
        print(f"jit_compile={jit_compile}: {rate:,.0f} images/s")


if __name__ == "__main__":
    main()
