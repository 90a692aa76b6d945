"""The interface of an opened model, whatever format it was in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.metadata import CHANNELS, MAX_CLASSES, MAX_SIDE, MIN_SIDE, Parameters, SourceKind
from cifar10_serving.runtimes.base import Runtime
from training.errors import ModelImportError
from training.importing.wrapping import Wrapping

Layout = Literal["NHWC", "NCHW"]
RANK = 4
SHAPE_EXPECTED = f"one input of images with {CHANNELS} channels: (batch, height, width, 3) or (batch, 3, height, width)"

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class SourceInput:
    """The input of a model: height and width of its images, order of its dimensions, and type."""

    size: Size
    layout: Layout
    dtype: str

    @property
    def scales_itself(self) -> bool:
        """True if it takes pixels as they are, as whole numbers from 0 to 255."""
        return self.dtype == "uint8"


class Source(Protocol):
    """A model that was opened for an import."""

    @property
    def kind(self) -> SourceKind:
        """The format of the file."""
        ...

    @property
    def input(self) -> SourceInput:
        """The only input."""
        ...

    @property
    def output_count(self) -> int:
        """Number of values for each image."""
        ...

    @property
    def parameters(self) -> Parameters:
        """Number of weights."""
        ...

    @property
    def architecture(self) -> str:
        """A short description."""
        ...

    @property
    def scales_itself(self) -> bool:
        """True if the model itself is known to scale pixels from 0 to 255."""
        ...

    def outputs(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the outputs (n, outputs) for scaled pixels (n, height, width, 3).

        Raises:
            ModelImportError: the model can't compute them.
        """
        ...

    def writer(self, wrapping: Wrapping) -> Callable[[Path], None]:
        """Return a function that writes the wrapped network into an artifact's folder."""
        ...

    def runtimes(self) -> list[Runtime] | None:
        """Return the runtimes that can load what `writer` writes; None for all."""
        ...


def image_input(
    shape: tuple[int | None, ...] | None, dtype: str, image_size: Size | None, preferred: Layout = "NHWC"
) -> SourceInput:
    """Return the input that a shape with a batch dimension describes.

    Args:
        shape: None or -1 for dimensions of any size; None if even their number is unknown.
        dtype: such as `float32`.
        image_size: for models that take images of any size, and models whose file doesn't tell.
        preferred: the layout of shapes that fit both.

    Raises:
        ModelImportError: it does not take colour images of one size.
    """
    if dtype in {"string", "object"}:
        raise ModelImportError(
            "its input is text or encoded files, not pixels",
            expected=SHAPE_EXPECTED,
            remedy="export the part of the model behind the decoding, which takes pixels",
        )
    if shape is None:
        shape = (None, None, None, CHANNELS)
    sizes = [None if size is None or size < 0 else size for size in shape]
    if len(sizes) != RANK:
        raise ModelImportError(
            f"its input has the shape {described_shape(sizes)}, which is not a batch of images",
            expected=SHAPE_EXPECTED,
        )
    layouts: list[Layout] = [preferred, "NCHW" if preferred == "NHWC" else "NHWC"]
    known = [layout for layout in layouts if sizes[_channel_axis(layout)] == CHANNELS]
    unknown = [layout for layout in layouts if sizes[_channel_axis(layout)] is None]
    if not known + unknown:
        raise ModelImportError(
            f"its input has the shape {described_shape(sizes)}, without a dimension of {CHANNELS} channels",
            expected=SHAPE_EXPECTED,
            remedy="put a layer in front that makes its channels from red, green and blue",
        )
    layout = (known + unknown)[0]
    height, width = sizes[1:3] if layout == "NHWC" else sizes[2:]
    return SourceInput(_size(height, width, image_size), layout, dtype)


def described_shape(sizes: list[int | None]) -> str:
    """Format a shape, with `any` for unknown sizes."""
    return f"({', '.join('any' if size is None else str(size) for size in sizes)})"


def output_count(shape: tuple[int | None, ...] | None) -> int:
    """Return the number of outputs for each image of an output's shape.

    Raises:
        ModelImportError: it is not one row of numbers for each image.
    """
    sizes = None if shape is None else [None if size is None or size < 0 else size for size in shape]
    count = sizes[1] if sizes is not None and len(sizes) == 2 else None  # noqa: PLR2004
    if count is None:
        raise ModelImportError(
            f"its output has the shape {'unknown' if sizes is None else described_shape(sizes)}, which is not a number "
            "for each class",
            expected="(batch, classes): a classifier of whole images",
            remedy="import a classifier; models that give sequences, boxes or maps can't be served",
        )
    if count > MAX_CLASSES:
        raise ModelImportError(f"it has {count:,} outputs", expected=f"at most {MAX_CLASSES:,} classes")
    return count


def only_one(names: list[str], what: str) -> str:
    """Return the only name.

    Raises:
        ModelImportError: there are several, or none.
    """
    if len(names) != 1:
        raise ModelImportError(
            f"it has {len(names)} {what}s{': ' if names else ''}{', '.join(names[:10])}",
            expected=f"one {what}",
            remedy=f"export a model with only the {what} that classifies images",
        )
    return names[0]


def _channel_axis(layout: Layout) -> int:
    return 3 if layout == "NHWC" else 1


def _size(height: int | None, width: int | None, image_size: Size | None) -> Size:
    if image_size is None and (height is None or width is None):
        raise ModelImportError(
            "it takes images of any size, and a version has one",
            expected="the size that it was trained with",
            remedy="pass --image-size, such as --image-size 224 or, height first, --image-size 224x320",
        )
    if image_size is not None and (height not in (None, image_size[0]) or width not in (None, image_size[1])):
        raise ModelImportError(
            f"it takes images of {height or 'any'}x{width or 'any'} pixels (height x width), but --image-size is "
            f"{image_size[0]}x{image_size[1]}",
            remedy="leave --image-size away",
        )
    chosen = image_size or (height or 0, width or 0)
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in chosen):
        raise ModelImportError(
            f"it takes images of {chosen[0]}x{chosen[1]} pixels", expected=f"{MIN_SIDE} to {MAX_SIDE} pixels a side"
        )
    return chosen
