"""The default recipe of an architecture beside the six.

python -m training fit --architecture my_net.py:build --data PHOTOS --name garden
"""

from training.recipes.recipe import Augmentation, Recipe


def own_architecture(model: str) -> Recipe:
    """Return a recipe that learns with most networks: AdamW, a cosine schedule, and `tuned`'s augmentation.

    It is a start, not a result: change it with the options of `fit`, or register a recipe with the architecture.
    """
    return Recipe(
        name="tuned",
        model=model,
        input_scaling="standardize",
        augmentation=Augmentation(crop_padding_pixels=4, flip=True),
        validation_fraction=0,
        split_seed=83,
        epochs=30,
        batch_size=128,
        optimizer="adamw",
        learning_rate=0.001,
        schedule="cosine",
        warmup_epochs=1,
        weight_decay=0.01,
        loss="categorical_crossentropy",
        seed=83,
        jit_compile=False,
    )
