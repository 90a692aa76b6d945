"""The recipe of a 2023 tutorial, reproduced exactly."""

from training.cifar10 import MODEL_NAMES, TRANSFER_MODELS
from training.recipes.recipe import IMAGENET, Recipe


def tutorial(model: str) -> Recipe:
    """Return the recipe: Adam's defaults, batch 128, 20 epochs, no augmentation, no early stopping, last weights.

    python -m training fit MODEL --recipe tutorial --data FOLDER --models models

    The transfer models start from Keras' ImageNet weights, frozen, and train only their head. Pixels are divided by 255
    for all six, although no ImageNet backbone was trained on such pixels. That is how the tutorial does it, and one
    reason why its transfer models are worse.

    The tutorial sets the seed 83 once and builds the models one after the other, so each gets different random numbers.
    Here each model trains in its own run, and one seed would give all three styles identical weights; so the seeds are
    83, 84, 85, … in the order of `training.cifar10.MODEL_NAMES`. The tutorial reports a test accuracy of 0.70 to 0.71
    for the small CNNs; ours is in models/<name>/1/metadata.json, with wall time, hardware and package versions.
    """
    return Recipe(
        name="tutorial",
        model=model,
        backbone_weights=IMAGENET if model in TRANSFER_MODELS else None,
        trainable_layers="head" if model in TRANSFER_MODELS else "all",
        input_scaling="divide_by_255",
        validation_fraction=0.2,
        split_seed=83,
        epochs=20,
        batch_size=128,
        optimizer="adam",
        learning_rate=0.001,
        seed=83 + (MODEL_NAMES.index(model) if model in MODEL_NAMES else 0),
        jit_compile=False,
    )
