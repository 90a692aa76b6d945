"""The small CNN trained on our own transfer models' answers; the settings were chosen on validation images.

python -m training fit MODEL --recipe distilled --data FOLDER
"""

from training.cifar10 import MODEL_NAMES
from training.recipes.recipe import Augmentation, Distillation, Recipe


def small_cnn(model: str) -> Recipe:
    """Return the recipe of a small CNN: the mean of two teachers' answers for four views of each image.

    A label names one class. A teacher also says how similar an image is to the other classes, and how to classify a dog
    with half a ship pasted over it. VGG16 is the most accurate of the published teachers, MobileNetV2 the fastest.

    No full run has been done yet.
    """
    return Recipe(
        name="distilled",
        model=model,
        batch_normalization="folded",
        input_scaling="standardize",
        augmentation=Augmentation(
            crop_padding_pixels=2,
            flip=True,
            contrast_share=0.1,
            contrast_lowest=0.2,
            noise_share=0.1,
            noise_deviation=0.1,
        ),
        distillation=Distillation(
            teachers=("vgg16/2", "mobilenetv2/1"),
            views=4,
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
