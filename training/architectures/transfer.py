"""The tutorial's transfer models: a `keras.applications` backbone with the same head on each.

Backbone without its top -> Flatten -> Dense 128 ReLU -> Dense 64 ReLU -> Dense softmax. Takes (batch, height,
width, 3) float32 as scaled by the recipe, returns probabilities (batch, classes) float32. `training.build` loads the
backbone's weights and freezes layers.
"""

from collections.abc import Callable
from typing import Any, Final

import keras
from keras import layers

from training.data.dataset import Dimensions

BACKBONES: Final[dict[str, Any]] = {
    "vgg16": keras.applications.VGG16,
    "mobilenetv2": keras.applications.MobileNetV2,
    "resnet50v2": keras.applications.ResNet50V2,
}
BACKBONE_LAYER: Final = "backbone"
FEATURES_LAYER: Final = "features"

ChangeBackbone = Callable[[keras.Model], keras.Model]


def transfer_model(
    name: str,
    dimensions: Dimensions,
    *,
    upsample_to: int | None = None,
    change_backbone: ChangeBackbone | None = None,
) -> keras.Model:
    """Build a backbone with its head, all weights drawn from the global seed.

    Args:
        name: one of `BACKBONES`.
        dimensions: size of the images and number of classes.
        upsample_to: side in pixels to which the graph enlarges the images first (bilinear). Every backbone divides
            the side by 32: 32 pixels end as one position, 64 as two by two. Averaging over the positions keeps the
            number of features, and so the size of the head, as it is at 32 pixels.
        change_backbone: receives the backbone that `keras.applications` builds, and returns the one to use.
    """
    images = keras.Input(dimensions.input_shape, name="images")
    height, width, channels = dimensions.input_shape
    if upsample_to:
        height = width = upsample_to
    backbone = BACKBONES[name](
        include_top=False,
        weights=None,
        input_shape=(height, width, channels),
        pooling="avg" if upsample_to else None,
        name=BACKBONE_LAYER,
    )
    if change_backbone is not None:
        backbone = change_backbone(backbone)
    x = images
    if (height, width, channels) != dimensions.input_shape:
        x = layers.Resizing(height, width, interpolation="bilinear", name="upsampling")(images)
    x = layers.Flatten(name=FEATURES_LAYER)(backbone(x))
    x = layers.Dense(128, activation="relu", name="hidden_1")(x)
    x = layers.Dense(64, activation="relu", name="hidden_2")(x)
    probabilities = layers.Dense(dimensions.class_count, activation="softmax", name="classifier", dtype="float32")(x)
    return keras.Model(images, probabilities, name=f"{BACKBONES[name].__name__}_Model")


def backbone_of(model: keras.Model) -> keras.Model:
    """Return the `keras.applications` backbone of a transfer model."""
    return model.get_layer(BACKBONE_LAYER)


def divide(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Split a transfer model into two that share its layers: images to features (batch, n), and on to probabilities."""
    features = model.get_layer(FEATURES_LAYER).output
    names = [layer.name for layer in model.layers]
    head = keras.Sequential(
        [keras.Input(features.shape[1:]), *model.layers[names.index(FEATURES_LAYER) + 1 :]], name="head"
    )
    return keras.Model(model.input, features, name="features"), head
