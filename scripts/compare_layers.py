"""Measures what `training.fast_layers` and `training.allocation` save of a training step, each alone and together.

    python -m scripts.compare_layers [MODEL]

Each combination runs in a process of its own, in turn, `ROUNDS` times; the best round counts, since on a machine that
others use too, every disturbance makes a step slower.
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
COMBINATIONS: Final = (("keras", "anew"), ("keras", "kept"), ("fast", "anew"), ("fast", "kept"))
"""Which layers, and whether memory is taken from the system anew in each step."""


def main() -> None:
    """Print images per second of each combination, and its ratio to Keras' layers."""
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
    """Images per second of training steps of the tuned recipe in this process."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import numpy as np

    from training.allocation import keep_memory
    from training.build import build, compile_for_training
    from training.recipes import get_recipe

    if memory == "kept":
        keep_memory()
    recipe = get_recipe("tuned", model).model_copy(update={"layers": layers})
    network = build(recipe)
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
