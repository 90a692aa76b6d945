"""The tutorial's transfer models: a `keras.applications` backbone, and the same head on each.

Backbone without its top -> Flatten -> Dense 128 ReLU -> Dense 64 ReLU -> Dense 10 softmax. Takes (batch, 32, 32, 3)
float32 as the recipe scales it, returns probabilities (batch, 10) float32. Which weights the backbone begins with,
and which of its layers train, is `training.build`'s part.
"""

from collections.abc import Callable
from typing import Any, Final

import keras
from keras import layers

from cifar10_serving.artifacts.labels import CLASS_COUNT, IMAGE_SHAPE, ModelName

BACKBONES: Final[dict[ModelName, Any]] = {
    "vgg16": keras.applications.VGG16,
    "mobilenetv2": keras.applications.MobileNetV2,
    "resnet50v2": keras.applications.ResNet50V2,
}
BACKBONE_LAYER: Final = "backbone"
FEATURES_LAYER: Final = "features"

ChangeBackbone = Callable[[keras.Model], keras.Model]


def transfer_model(
    name: ModelName, *, upsample_to: int | None = None, change_backbone: ChangeBackbone | None = None
) -> keras.Model:
    """A backbone and its head, all weights drawn from the global seed.

    Args:
        name: one of `BACKBONES`.
        upsample_to: side in pixels to which the graph enlarges the images first (bilinear). Every backbone divides
            the side by 32, so that 32 pixels end as one position and 64 as two by two. The mean over the positions
            keeps the features as many as they are at 32 pixels, and the head the size that the tutorial gives it.
        change_backbone: gets the backbone as `keras.applications` builds it, and returns the one to use.
    """
    images = keras.Input(IMAGE_SHAPE, name="images")
    side = upsample_to or IMAGE_SHAPE[0]
    backbone = BACKBONES[name](
        include_top=False,
        weights=None,
        input_shape=(side, side, IMAGE_SHAPE[2]),
        pooling="avg" if upsample_to else None,
        name=BACKBONE_LAYER,
    )
    if change_backbone is not None:
        backbone = change_backbone(backbone)
    x = layers.Resizing(side, side, interpolation="bilinear", name="upsampling")(images) if upsample_to else images
    x = layers.Flatten(name=FEATURES_LAYER)(backbone(x))
    x = layers.Dense(128, activation="relu", name="hidden_1")(x)
    x = layers.Dense(64, activation="relu", name="hidden_2")(x)
    probabilities = layers.Dense(CLASS_COUNT, activation="softmax", name="classifier", dtype="float32")(x)
    return keras.Model(images, probabilities, name=f"{BACKBONES[name].__name__}_Model")


def backbone_of(model: keras.Model) -> keras.Model:
    """The `keras.applications` part of a transfer model."""
    return model.get_layer(BACKBONE_LAYER)


def divide(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """A transfer model as two that share its layers: images to features (batch, n), features to probabilities."""
    features = model.get_layer(FEATURES_LAYER).output
    names = [layer.name for layer in model.layers]
    head = keras.Sequential(
        [keras.Input(features.shape[1:]), *model.layers[names.index(FEATURES_LAYER) + 1 :]], name="head"
    )
    return keras.Model(model.input, features, name="features"), head
