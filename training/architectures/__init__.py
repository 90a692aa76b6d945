"""The networks themselves, one file for each family; how they are trained is `training.recipes`' part."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from cifar10_serving.artifacts.labels import ModelName
from training.architectures import small_cnn, transfer

ARCHITECTURES: Final[dict[ModelName, Callable[..., Any]]] = {
    "sequential": small_cnn.sequential,
    "functional": small_cnn.functional,
    "subclassing": small_cnn.subclassing,
    "vgg16": partial(transfer.transfer_model, "vgg16"),
    "mobilenetv2": partial(transfer.transfer_model, "mobilenetv2"),
    "resnet50v2": partial(transfer.transfer_model, "resnet50v2"),
}
"""Model name -> a new `keras.Model`, its weights drawn from the global seed. Small CNNs take
`parts`, transfer models `upsample_to` and `change_backbone`."""
