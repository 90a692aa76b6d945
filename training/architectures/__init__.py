"""The networks, one file per family; `training.recipes` says how they are trained."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from training.architectures import small_cnn, transfer

ARCHITECTURES: Final[dict[str, Callable[..., Any]]] = {
    "sequential": small_cnn.sequential,
    "functional": small_cnn.functional,
    "subclassing": small_cnn.subclassing,
    "vgg16": partial(transfer.transfer_model, "vgg16"),
    "mobilenetv2": partial(transfer.transfer_model, "mobilenetv2"),
    "resnet50v2": partial(transfer.transfer_model, "resnet50v2"),
}
"""Architecture name -> function that builds a new `keras.Model`, with weights drawn from the global seed. Each
takes the `Dimensions`; small CNNs also take `parts`, transfer models `upsample_to` and `change_backbone`."""
