"""A model as a function in TensorFlow's graph: what Keras files and SavedModels have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cifar10_serving.artifacts.metadata import Parameters, SourceKind
from cifar10_serving.runtimes.base import Runtime
from training.data.dataset import Dimensions
from training.errors import ModelImportError
from training.importing.source import SourceInput
from training.importing.wrapping import Wrapping, probabilities_in_graph
from training.preprocessing import scale_in_graph
from training.saved_model import freeze, write_graph

TO_NCHW, FROM_NHWC = (0, 3, 1, 2), "NCHW"


class GraphSource:
    """An opened model; see `training.importing.source.Source`.

    Args:
        kind: the format of the file.
        function: maps a tensor of the input's layout and type to outputs (n, outputs).
        source_input: the only input.
        output_count: number of values for each image.
        parameters: number of weights.
        architecture: a short description.
        scales_itself: True if the model itself is known to scale pixels.
    """

    def __init__(
        self,
        kind: SourceKind,
        function: Callable[[Any], Any],
        source_input: SourceInput,
        *,
        output_count: int,
        parameters: Parameters,
        architecture: str,
        scales_itself: bool,
    ) -> None:
        self.kind: SourceKind = kind
        self.input = source_input
        self.output_count = output_count
        self.parameters = parameters
        self.architecture = architecture
        self.scales_itself = scales_itself or source_input.scales_itself
        self._function = function
        shape = (None, *source_input.size, 3)
        self._compiled = tf.function(self._of_scaled, input_signature=[tf.TensorSpec(shape, tf.float32)])

    def outputs(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute outputs; see `training.importing.source.Source.outputs`."""
        with tf.device("/CPU:0"):
            try:
                return np.asarray(self._compiled(tf.constant(pixels)), np.float32)
            except (tf.errors.OpError, ValueError, TypeError) as error:
                raise self._failed(error) from None

    def writer(self, wrapping: Wrapping) -> Callable[[Path], None]:
        """Return a function that writes a SavedModel with preprocessing in the graph and constant weights."""
        dimensions = Dimensions(wrapping.input_shape, wrapping.class_count)

        def classify(images: Any) -> Any:
            pixels = scale_in_graph(tf.cast(images, tf.float32), wrapping.scaling)
            return probabilities_in_graph(self._of_scaled(pixels), wrapping.outputs)

        def write(folder: Path) -> None:
            try:
                frozen = freeze(classify, wrapping.input_shape)
            except (tf.errors.OpError, ValueError, TypeError) as error:
                raise self._failed(error) from None
            write_graph(frozen, dimensions, folder)

        return write

    def runtimes(self) -> list[Runtime] | None:
        """Return None: all runtimes load a SavedModel."""
        return None

    def _of_scaled(self, pixels: Any) -> Any:
        dtype = tf.as_dtype(self.input.dtype)
        if dtype.is_integer:
            pixels = tf.round(pixels)
        if self.input.layout == FROM_NHWC:
            pixels = tf.transpose(pixels, TO_NCHW)
        values = tf.cast(self._function(tf.cast(pixels, dtype)), tf.float32)
        return tf.ensure_shape(values, (None, self.output_count))

    def _failed(self, error: Exception) -> ModelImportError:
        return ModelImportError(
            f"TensorFlow can't compute the model for several images of {self.input.size[0]}x{self.input.size[1]} "
            f"pixels: {one_line(error)}",
            expected="a model that takes batches of any size on a CPU",
            remedy="export it with an unknown batch dimension, such as (None, height, width, 3)",
        )


def one_line(error: BaseException) -> str:
    """Return the first line of an error with any text."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:300]
