"""Our own recipes: each architecture as good as it gets, trained on CIFAR-10 alone; validation images decided.

    python -m training fit MODEL --recipe tuned --data FOLDER

What each reached is in models/<name>/<version>/metadata.json, with wall time, hardware and versions.
"""

from typing import Any

from cifar10_serving.artifacts.labels import MODEL_NAMES, ModelName
from training.recipes.recipe import NO_WEIGHTS, Augmentation, Recipe


def small_cnn(model: ModelName) -> Recipe:
    """The tutorial's small CNN with images that are never twice the same, and a learning rate that ends at nothing.

    The tutorial's run knows its 40,000 images by heart after ten epochs. Here every image is moved and mirrored anew
    in each epoch, so that a hundred epochs still teach; SGD with momentum and weight decay finds flatter ground than
    Adam; bfloat16 makes it 1.6 times as fast.

    `python -m training fit MODEL --recipe tuned`, 100 epochs: sequential 0.8792, functional 0.8804, subclassing 0.8790
    of the test images; three seeds of one network, so these are its spread. 24 to 26 minutes each on two cores of an
    AMD EPYC with bfloat16 instructions (sequential 57, beside other work); TensorFlow 2.21, Keras 3.15. Trained so it
    is too sure of itself: of 5,000 images held out (`python -m training temperature functional --recipe tuned`, on JAX
    and an NVIDIA H100) the calibration error is 0.0429, at the temperature 1.44 it is 0.0112.
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


def vgg16(model: ModelName) -> Recipe:
    """VGG16 as a plain stack can't be trained: normalized after each convolution, which is folded away in the end.

    Without normalization this depth learns slowly and only at small learning rates. What is exported has the layers,
    and the 14,789,258 parameters, of `keras.applications.VGG16` and the head.

    `python -m training fit vgg16 --recipe tuned`, 80 epochs: 0.9396 of the test images. 3.1 minutes on an NVIDIA H100
    beside the other two; Keras 3.15 on JAX 0.11. (Before, with 26 epochs in batches of 128 at half the learning rate:
    0.9260 after 2.6 hours on two cores.)
    """
    return Recipe(
        model=model,
        batch_normalization="folded",
        epochs=80,
        precision="mixed_bfloat16",
        **_transfer(model),
    )


def mobilenetv2(model: ModelName) -> Recipe:
    """MobileNetV2 on images enlarged to 96 pixels: at 32 its last layers see a single position.

    In float32, since the depthwise convolutions are slower in bfloat16; and with half the weight decay of the two
    larger networks, of whose parameters it has a tenth. Of 3,000 images held out, 8 epochs of the first 27,000 taught
    it 0.785 at 96 pixels and 0.727 at 64.

    `python -m training fit mobilenetv2 --recipe tuned`, 100 epochs: 0.9329 of the test images. 8.1 minutes on an
    NVIDIA H100 beside the other two; Keras 3.15 on JAX 0.11.
    """
    return Recipe(
        model=model,
        layers="fast",
        upsample_to=96,
        epochs=100,
        **(_transfer(model) | {"weight_decay": 0.005}),
    )


def resnet50v2(model: ModelName) -> Recipe:
    """ResNet50V2 on images enlarged to 64 pixels, for the same reason.

    `python -m training fit resnet50v2 --recipe tuned`, 60 epochs: 0.9271 of the test images. 4.7 minutes on an NVIDIA
    H100 beside the other two; Keras 3.15 on JAX 0.11.
    """
    return Recipe(
        model=model,
        layers="fast",
        upsample_to=64,
        epochs=60,
        precision="mixed_bfloat16",
        **_transfer(model),
    )


def _transfer(model: ModelName) -> dict[str, Any]:
    """What the transfer models share: random weights, and more against over-fitting than the small CNNs have."""
    return {
        "backbone_weights": NO_WEIGHTS,
        "augmentation": Augmentation(crop_padding_pixels=4, flip=True, cutout_pixels=8),
        "weight_decay": 0.01,
        "label_smoothing": 0.05,
        **_common(model),
        "batch_size": 250,
        "learning_rate": 0.1,
    }


def _common(model: ModelName) -> dict[str, Any]:
    """What all share: one schedule, one optimizer, all 50,000 images, and a seed of its own for each model."""
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
