"""Our own recipes: each architecture as good as it gets, trained on CIFAR-10 alone; validation images decided."""

from catalog.labels import MODEL_NAMES, ModelName
from training.recipes.recipe import Augmentation, Recipe

SMALL_CNNS: tuple[ModelName, ...] = ("sequential", "functional", "subclassing")


def small_cnn(model: ModelName) -> Recipe:
    """The tutorial's small CNN with images that are never twice the same, and a learning rate that ends at nothing.

    python -m training fit MODEL --recipe tuned --data FOLDER

    The tutorial's run knows its 40,000 images by heart after ten epochs. Here every image is moved and mirrored anew
    in each epoch, so that a hundred epochs still teach; SGD with momentum and weight decay finds flatter ground than
    Adam; bfloat16 makes it 1.6 times as fast. All 50,000 training images train. What it reached is in
    models/<name>/2/metadata.json, with wall time, hardware and versions.
    """
    return Recipe(
        name="tuned",
        model=model,
        input_scaling="standardize",
        augmentation=Augmentation(crop_padding_pixels=4, flip=True),
        validation_fraction=0,
        split_seed=83,
        epochs=100,
        batch_size=128,
        optimizer="sgd",
        learning_rate=0.05,
        momentum=0.9,
        weight_decay=0.005,
        schedule="cosine",
        warmup_epochs=1,
        loss="categorical_crossentropy",
        seed=83 + MODEL_NAMES.index(model),
        precision="mixed_bfloat16",
        jit_compile=False,
    )
