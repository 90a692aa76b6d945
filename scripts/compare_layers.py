"""Measure the speed-up of a training step by `training.fast_layers` and `training.allocation`, separately and together.

    python -m scripts.compare_layers [MODEL]

Each combination runs in its own process, alternating, `ROUNDS` times. The best round counts, since other load on the
machine can only make a step slower.
"""

import argparse
import os
import subprocess
import sys
import time
from typing import Final

ROUNDS: Final = 2
STEPS: Final = 5
WARM_UP_STEPS: Final = 2
COMBINATIONS: Final = (("keras", "released"), ("keras", "kept"), ("fast", "released"), ("fast", "kept"))
"""The kind of layers, and whether freed memory is kept, or released to the system in each step."""


def main() -> None:
    """Print the images per second of each combination, and the ratio to Keras' layers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="mobilenetv2", choices=("mobilenetv2", "resnet50v2"))
    parser.add_argument("--measure", nargs=2, metavar=("LAYERS", "MEMORY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(_images_per_s(arguments.model, *arguments.measure))
        return
    best = dict.fromkeys(COMBINATIONS, 0.0)
    for _ in range(ROUNDS):
        for combination in COMBINATIONS:
            best[combination] = max(best[combination], _in_a_process(arguments.model, *combination))
    for (layers, memory), images_per_s in best.items():
        ratio = images_per_s / best[COMBINATIONS[0]]
        print(f"{arguments.model}, layers {layers:5}, memory {memory}: {images_per_s:4.0f} images/s, {ratio:.2f}")


def _in_a_process(model: str, layers: str, memory: str) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.compare_layers", model, "--measure", layers, memory],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _images_per_s(model: str, layers: str, memory: str) -> float:
    """Measure the images per second of the tuned recipe's training steps in this process."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import numpy as np

    from training.allocation import keep_memory
    from training.build import build, compile_for_training
    from training.data import CIFAR_DIMENSIONS
    from training.recipes import get_recipe

    if memory == "kept":
        keep_memory()
    recipe = get_recipe("tuned", model).model_copy(update={"layers": layers})
    network = build(recipe, CIFAR_DIMENSIONS)
    compile_for_training(network, recipe, train_n=50_000)
    random = np.random.default_rng(1)
    images = random.normal(size=(recipe.batch_size, 32, 32, 3)).astype(np.float32)
    targets = np.eye(10, dtype=np.float32)[random.integers(0, 10, recipe.batch_size)]
    for _ in range(WARM_UP_STEPS):
        network.train_on_batch(images, targets)
    began_s = time.perf_counter()
    for _ in range(STEPS):
        network.train_on_batch(images, targets)
    return STEPS * recipe.batch_size / (time.perf_counter() - began_s)


if __name__ == "__main__":
    main()
