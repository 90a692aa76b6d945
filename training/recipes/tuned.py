"""Our own recipes for the best accuracy on CIFAR-10 alone; the settings were chosen on validation images.

    python -m training fit MODEL --recipe tuned --data FOLDER

models/<name>/<version>/metadata.json has the results, with wall time, hardware and package versions.
"""

from typing import Any

from training.cifar10 import MODEL_NAMES
from training.recipes.recipe import NO_WEIGHTS, Augmentation, Recipe


def small_cnn(model: str) -> Recipe:
    """Return the recipe of a small CNN: the tutorial's network with augmentation and a cosine schedule.

    The tutorial's run memorizes its 40,000 images within ten epochs. Here each image is randomly shifted and flipped in
    each epoch, so that a hundred epochs still help. SGD with momentum and weight decay finds flatter minima than Adam.
    bfloat16 makes it 1.6 times as fast.

    `python -m training fit MODEL --recipe tuned`, 100 epochs, test accuracy: sequential 0.8792, functional 0.8804,
    subclassing 0.8790. These are three seeds of one network, so they show its spread. 24 to 26 minutes each on two
    cores of an AMD EPYC with bfloat16 instructions (sequential 57, on a busy machine); TensorFlow 2.21, Keras 3.15. The
    model is over-confident: on 5,000 held-out images (`python -m training temperature functional --recipe tuned`, on
    JAX and an NVIDIA H100) the calibration error is 0.0429; at temperature 1.44 it is 0.0112.
    """
    return Recipe(
        model=model,
        augmentation=Augmentation(crop_padding_pixels=4, flip=True),
        epochs=100,
        weight_decay=0.005,
        precision="mixed_bfloat16",
        temperature=1.44,
        **_common(model),
    )


def vgg16(model: str) -> Recipe:
    """Return the recipe of VGG16: trained with batch normalization after each convolution, folded away at export.

    Without normalization a network this deep learns slowly and only at small learning rates. The exported network has
    the layers and the 14,789,258 parameters of `keras.applications.VGG16` and the head.

    `python -m training fit vgg16 --recipe tuned`, 80 epochs: test accuracy 0.9396. 3.1 minutes on an NVIDIA H100 shared
    with the other two; Keras 3.15 on JAX 0.11. (Earlier, with 26 epochs in batches of 128 at half the learning rate:
    0.9260 after 2.6 hours on two cores.)
    """
    return Recipe(
        model=model,
        batch_normalization="folded",
        epochs=80,
        precision="mixed_bfloat16",
        **_transfer(model),
    )


def mobilenetv2(model: str) -> Recipe:
    """Return the recipe of MobileNetV2: images enlarged to 96 pixels, since at 32 its last layers see one position.

    It trains in float32, because depthwise convolutions are slower in bfloat16, and with half the weight decay of the
    two larger networks, which have ten times as many parameters. After 8 epochs on the first 27,000 images, accuracy on
    3,000 held-out images was 0.785 at 96 pixels and 0.727 at 64.

    `python -m training fit mobilenetv2 --recipe tuned`, 100 epochs: test accuracy 0.9329. 8.1 minutes on an NVIDIA H100
    shared with the other two; Keras 3.15 on JAX 0.11.
    """
    return Recipe(
        model=model,
        layers="fast",
        upsample_to=96,
        epochs=100,
        **(_transfer(model) | {"weight_decay": 0.005}),
    )


def resnet50v2(model: str) -> Recipe:
    """Return the recipe of ResNet50V2: images enlarged to 64 pixels, for the same reason as with MobileNetV2.

    `python -m training fit resnet50v2 --recipe tuned`, 60 epochs: test accuracy 0.9271. 4.7 minutes on an NVIDIA H100
    shared with the other two; Keras 3.15 on JAX 0.11.
    """
    return Recipe(
        model=model,
        layers="fast",
        upsample_to=64,
        epochs=60,
        precision="mixed_bfloat16",
        **_transfer(model),
    )


def _transfer(model: str) -> dict[str, Any]:
    """Return the settings of all transfer models: random weights, and more regularization than the small CNNs have."""
    return {
        "backbone_weights": NO_WEIGHTS,
        "augmentation": Augmentation(crop_padding_pixels=4, flip=True, cutout_pixels=8),
        "weight_decay": 0.01,
        "label_smoothing": 0.05,
        **_common(model),
        "batch_size": 250,
        "learning_rate": 0.1,
    }


def _common(model: str) -> dict[str, Any]:
    """Return the settings of all models: schedule, optimizer, all 50,000 images, and a different seed per model."""
    return {
        "name": "tuned",
        "input_scaling": "standardize",
        "validation_fraction": 0,
        "split_seed": 83,
        "batch_size": 128,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "momentum": 0.9,
        "schedule": "cosine",
        "warmup_epochs": 1,
        "loss": "categorical_crossentropy",
        "seed": 83 + MODEL_NAMES.index(model),
        "jit_compile": False,
    }
