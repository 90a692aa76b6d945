"""The ten CIFAR-10 class names and the six models that the project knows.

Owns the names as users see them; which versions of a model exist is a matter of `cifar10_serving.artifacts.layout`.
"""

from dataclasses import dataclass
from typing import Final, Literal

CLASS_NAMES: Final[tuple[str, ...]] = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
"""Index = the official label, 0..9."""

CLASS_COUNT: Final = len(CLASS_NAMES)
IMAGE_SHAPE: Final = (32, 32, 3)
"""Height, width, RGB channels of every image that a model takes."""

ModelName = Literal["sequential", "functional", "subclassing", "vgg16", "mobilenetv2", "resnet50v2"]


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """A model's name in URLs and folders, its title for people, and how it is built."""

    name: ModelName
    title: str
    architecture: str


MODELS: Final[tuple[ModelIdentity, ...]] = (
    ModelIdentity("sequential", "Sequential CNN", "small CNN, written with keras.Sequential"),
    ModelIdentity("functional", "Functional CNN", "small CNN, written with the functional API"),
    ModelIdentity("subclassing", "Subclassing CNN", "small CNN, written as a subclass of keras.Model"),
    ModelIdentity("vgg16", "VGG16", "VGG16 backbone with a new head"),
    ModelIdentity("mobilenetv2", "MobileNetV2", "MobileNetV2 backbone with a new head"),
    ModelIdentity("resnet50v2", "ResNet50V2", "ResNet50V2 backbone with a new head"),
)
MODEL_NAMES: Final[tuple[ModelName, ...]] = tuple(model.name for model in MODELS)
SMALL_CNNS: Final[tuple[ModelName, ...]] = ("sequential", "functional", "subclassing")
"""One network, written in three styles."""
TRANSFER_MODELS: Final[tuple[ModelName, ...]] = ("vgg16", "mobilenetv2", "resnet50v2")
"""A backbone of `keras.applications` with a new head."""


def identity(name: ModelName) -> ModelIdentity:
    """The entry of `MODELS` with this name."""
    return next(model for model in MODELS if model.name == name)
