"""Trains the sequential model twice by the tutorial recipe, the data's order being the only difference.

    python -m scripts.compare_data_orders FOLDER      FOLDER holds the official CIFAR-10

Shows what it costs that Keras 3 repeats one order in every epoch. Takes as long as two trainings.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from training.data import load_cifar10
from training.fit import fit
from training.preprocessing import scale
from training.recipes import get_recipe


def main() -> None:
    """Print the test loss and accuracy of the Keras model after each training."""
    data = load_cifar10(Path(sys.argv[1]))
    for order in ("one_order_repeated", "reshuffled_each_epoch"):
        recipe = get_recipe("tutorial", "sequential").model_copy(update={"data_order": order})
        trained = fit(recipe, data.train, verbose=0)
        images = scale(data.test.images, recipe.input_scaling)
        loss, accuracy = trained.model.evaluate(images, data.test.labels, verbose=0)
        best = max(entry.val_accuracy for entry in trained.history)
        print(f"{order}: test accuracy {accuracy:.4f}, test loss {loss:.4f}, best validation accuracy {best:.4f}")


if __name__ == "__main__":
    main()
