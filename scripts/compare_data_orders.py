"""Train the sequential model three times with the tutorial recipe, changing only the order of the data.

    python -m scripts.compare_data_orders FOLDER      FOLDER holds the official CIFAR-10

Shows the cost of Keras 3's `fit` on arrays, which repeats one order in every epoch. Takes as long as three training
runs.
"""

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from training.build import build, compile_for_training
from training.data import CIFAR_DIMENSIONS, Split, load_cifar10, split_validation
from training.fit import fit
from training.preprocessing import scale
from training.recipes import Recipe, get_recipe


def main() -> None:
    """Print the test loss and accuracy of the Keras model after each training."""
    data = load_cifar10(Path(sys.argv[1]))
    recipe = get_recipe("tutorial", "sequential")
    report("keras fit on arrays", *fit_on_arrays(recipe, data.train), recipe, data.test)
    for order in ("one_order_repeated", "reshuffled_each_epoch"):
        trained = fit(recipe.model_copy(update={"data_order": order}), data)
        best = max(entry.val_accuracy or 0.0 for entry in trained.history)
        report(order.replace("_", " "), trained.model, best, recipe, data.test)


def fit_on_arrays(recipe: Recipe, train: Split) -> tuple[Any, float]:
    """Train with Keras' own `fit` on arrays, as the tutorial does; return model and best validation accuracy."""
    training, validation = split_validation(train, fraction=recipe.validation_fraction, seed=recipe.split_seed)
    model = build(recipe, CIFAR_DIMENSIONS)
    compile_for_training(model, recipe, train_n=len(training))
    history = model.fit(
        scale(training.pixels, recipe.input_scaling),
        training.labels,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        validation_data=(scale(validation.pixels, recipe.input_scaling), validation.labels),
        verbose=0,
    )
    return model, max(history.history["val_accuracy"])


def report(order: str, model: Any, best_validation: float, recipe: Recipe, test: Split) -> None:
    """Print one line."""
    loss, accuracy = model.evaluate(scale(test.pixels, recipe.input_scaling), test.labels, verbose=0)
    print(
        f"{order:<22} test accuracy {accuracy:.4f}, test loss {loss:.4f}, "
        f"best validation accuracy {best_validation:.4f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
