"""The small CNN taught by this repository's own transfer models; validation images decided its settings.

python -m training fit MODEL --recipe distilled --data FOLDER
"""

from catalog.labels import MODEL_NAMES, ModelName
from training.recipes.recipe import Augmentation, Distillation, Recipe


def small_cnn(model: ModelName) -> Recipe:
    """The small CNN."""
    return Recipe(
        name="distilled",
        model=model,
        batch_normalization="folded",
        input_scaling="standardize",
        augmentation=Augmentation(
            crop_padding_pixels=2,
            flip=True,
        ),
        distillation=Distillation(
            teachers=("vgg16/2", "mobilenetv2/1"),
            views=6,
            augmentation=Augmentation(crop_padding_pixels=4, flip=True),
            cutmix_share=0.5,
            seed=83,
        ),
        validation_fraction=0,
        split_seed=83,
        epochs=120,
        batch_size=128,
        optimizer="sgd",
        learning_rate=0.05,
        momentum=0.9,
        schedule="cosine",
        warmup_epochs=1,
        weight_decay=0.005,
        loss="categorical_crossentropy",
        seed=83 + MODEL_NAMES.index(model),
        precision="mixed_bfloat16",
        jit_compile=False,
    )
