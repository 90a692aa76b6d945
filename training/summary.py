"""Table of a network: layers, output shapes, parameters, and the image's side after each layer.

The side is calculated by N_out = floor((N_in + 2p - k) / s) + 1 from the numbers shown, independently of the shape that
Keras reports. A test checks that both agree for every layer of all six networks.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import keras
from keras import layers

from training.build import build, to_export
from training.data.dataset import Dimensions
from training.recipes import Recipe
from training.recipes.recipe import NO_WEIGHTS

BYTES_PER_WEIGHT: Final = 4
HEADINGS: Final = ("layer (type)", "output shape", "parameters", "side: floor((N + 2p - k)/s) + 1")
WINDOWED: Final = (layers.Conv2D, layers.DepthwiseConv2D, layers.MaxPooling2D, layers.AveragePooling2D)


@dataclass(frozen=True)
class Side:
    """The image's side in pixels after a layer, and the calculation."""

    pixels: int
    formula: str


@dataclass(frozen=True)
class Row:
    """A layer; `side` is set if it slides a window over the image or pads it."""

    name: str
    type: str
    output_shape: tuple[int | None, ...]
    parameters: int
    depth: int
    side: Side | None


def summarize(recipe: Recipe, dimensions: Dimensions) -> str:
    """Return the table of the network that a recipe exports, whatever the backbone's weights are."""
    if recipe.backbone_weights is not None:
        recipe = recipe.model_copy(update={"backbone_weights": NO_WEIGHTS})
    model = to_export(build(recipe, dimensions), recipe, dimensions)
    trainable = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    cells = [HEADINGS, *(_cells(row) for row in rows(model, dimensions))]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    lines = [
        f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {parameters:>{widths[2]}}  {side}".rstrip()
        for name, shape, parameters, side in cells
    ]
    return "\n".join(
        [
            f'Model: "{model.name}", recipe {recipe.name}',
            "",
            lines[0],
            "-" * max(map(len, lines)),
            *lines[1:],
            "",
            f"Total params: {_with_size(model.count_params())}",
            f"Trainable params: {_with_size(trainable)}",
            f"Non-trainable params: {_with_size(model.count_params() - trainable)}",
        ]
    )


def rows(model: Any, dimensions: Dimensions) -> list[Row]:
    """List the layers in the order of the forward pass; those of a backbone are one level deeper."""
    return list(_rows(_in_order_of_call(model, dimensions), depth=0))


def side_after(layer: Any) -> Side | None:
    """Calculate the side of a layer's output; None for layers that slide no window over the image."""
    if isinstance(layer, layers.ZeroPadding2D):
        (before, after), _ = layer.padding
        entering = layer.input.shape[1]
        return Side(entering + before + after, f"{entering} + {before} + {after}")
    if not isinstance(layer, WINDOWED):
        return None
    entering = layer.input.shape[1]
    kernel = layer.pool_size[0] if hasattr(layer, "pool_size") else layer.kernel_size[0]
    stride = layer.strides[0]
    padding = _padding_of_both_sides(layer.padding, entering, kernel, stride)
    pixels = (entering + padding - kernel) // stride + 1
    return Side(pixels, f"floor(({entering} + {padding} - {kernel})/{stride}) + 1")


def _padding_of_both_sides(padding: str, entering: int, kernel: int, stride: int) -> int:
    """Return 2p: Keras' "same" pads to ceil(N / s), with the odd pixel on one side."""
    if padding == "valid":
        return 0
    return max((math.ceil(entering / stride) - 1) * stride + kernel - entering, 0)


def _in_order_of_call(model: Any, dimensions: Dimensions) -> Any:
    """Trace a subclassed model into a graph: its own list of layers has the constructor's order and no shapes."""
    if hasattr(model, "inputs") and model.inputs:
        return model
    images = keras.Input(dimensions.input_shape)
    return keras.Model(images, model.call(images), name=model.name)


def _rows(model: Any, depth: int) -> Iterator[Row]:
    for layer in model.layers:
        yield Row(
            name=layer.name,
            type=type(layer).__name__,
            output_shape=tuple(layer.output.shape),
            parameters=layer.count_params(),
            depth=depth,
            side=side_after(layer),
        )
        if isinstance(layer, keras.Model):
            yield from _rows(layer, depth + 1)


def _cells(row: Row) -> tuple[str, str, str, str]:
    side = f"{row.side.formula} = {row.side.pixels}" if row.side else ""
    return f"{'  ' * row.depth}{row.name} ({row.type})", str(row.output_shape), f"{row.parameters:,}", side


def _with_size(weights: int) -> str:
    return f"{weights:,} ({weights * BYTES_PER_WEIGHT / 2**20:.2f} MB)"
