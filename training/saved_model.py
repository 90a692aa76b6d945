"""Write a Keras model as the SavedModel that every runtime and server loads: frozen, half the size, uint8 input.

Variables become constants, so that the runtimes can do constant folding. Constants of 1,024 elements and more are
stored as float16 with a Cast to float32, which both runtimes fold at load: half the size on disk.
`training.export` writes the rest of a version.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from cifar10_serving.artifacts.metadata import SAVED_MODEL_FILE, InputShape, SignatureSpec, TensorSpec
from cifar10_serving.runtimes.base import Images
from training.data.dataset import Dimensions
from training.errors import ExportError
from training.preprocessing import scale_in_graph
from training.recipes.recipe import InputScaling
from training.temperature import at_temperature_in_graph

HALF_SIZE_FROM_ELEMENTS: Final = 1024
DEFAULT_SIGNATURE: Final = "serving_default"
ENCODED_SIGNATURE: Final = "encoded_images"
WARM_UP_BATCHES: Final = (1, 32)
FROM_VARIABLE: Final = "ReadVariableOp"
"""Part of the name of a constant that TensorFlow made from a variable."""


def signatures(dimensions: Dimensions) -> list[SignatureSpec]:
    """Describe both signatures of `write_graph`, for the metadata."""
    height, width, channels = dimensions.input_shape
    largest = "the central square" if height == width else f"the largest central part of the shape {width}x{height}"
    probabilities = TensorSpec(
        name="probabilities",
        dtype="float32",
        shape=[-1, dimensions.class_count],
        description="softmax over the classes, in label order",
    )
    return [
        SignatureSpec(
            name=DEFAULT_SIGNATURE,
            inputs=[
                TensorSpec(name="images", dtype="uint8", shape=[-1, height, width, channels], description="RGB, 0..255")
            ],
            outputs=[probabilities],
        ),
        SignatureSpec(
            name=ENCODED_SIGNATURE,
            inputs=[
                TensorSpec(
                    name="image_bytes",
                    dtype="string",
                    shape=[-1],
                    description=f"PNG, JPEG, GIF (first frame) or BMP files of any size: {largest}, resized to "
                    f"{width}x{height} by antialiased bicubic interpolation; alpha is dropped, EXIF rotation ignored",
                )
            ],
            outputs=[probabilities],
        ),
    ]


def write_saved_model(
    model: Any, scaling: InputScaling, dimensions: Dimensions, folder: Path, *, temperature: float = 1.0
) -> None:
    """Write a trained model with `write_graph`.

    Args:
        model: a `keras.Model` from scaled float32 images to probabilities.
        scaling: converts uint8 pixels to the model's input, inside the graph.
        dimensions: size of the images and number of classes.
        folder: the artifact's folder.
        temperature: divides the logits (training.temperature).

    Raises:
        OSError: the folder can't be written to.
    """
    write_graph(freeze(_from_pixels(model, scaling, temperature), dimensions.input_shape), dimensions, folder)


def freeze(classify: Callable[[Any], Any], input_shape: InputShape) -> Any:
    """Return the concrete function of `classify`, with variables as constants.

    Args:
        classify: maps a tensor of images (batch, height, width, 3) uint8 RGB 0..255 to probabilities (batch, classes)
            float32.
        input_shape: height, width and channels of the images.
    """
    spec = tf.TensorSpec((None, *input_shape), tf.uint8, name="images")
    return convert_variables_to_constants_v2(tf.function(classify, input_signature=[spec]).get_concrete_function())


def write_graph(frozen: Any, dimensions: Dimensions, folder: Path) -> None:
    """Write `saved_model.pb` (and its empty `variables/`) with both of `signatures` into a folder.

    Args:
        frozen: a concrete function of `freeze`.
        dimensions: size of the images and number of classes.
        folder: the artifact's folder.

    Raises:
        OSError: the folder can't be written to.
    """
    graph = halve_constants(frozen.graph.as_graph_def())
    input_name, output_name = frozen.inputs[0].name, frozen.outputs[0].name
    images_spec = tf.TensorSpec((None, *dimensions.input_shape), tf.uint8, name="images")
    decode = partial(_decode, input_shape=dimensions.input_shape)

    @tf.function(input_signature=[images_spec])  # type: ignore[untyped-decorator]  # no type information
    def classify(images: Any) -> Any:
        return tf.graph_util.import_graph_def(
            graph, input_map={input_name: images}, return_elements=[output_name], name=""
        )[0]

    @tf.function(input_signature=[images_spec])  # type: ignore[untyped-decorator]
    def serving_default(images: Any) -> dict[str, Any]:
        return {"probabilities": classify(images)}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])  # type: ignore[untyped-decorator]
    def encoded_images(image_bytes: Any) -> dict[str, Any]:
        spec = tf.TensorSpec(dimensions.input_shape, tf.uint8)
        return {"probabilities": classify(tf.map_fn(decode, image_bytes, fn_output_signature=spec))}

    module = tf.Module()
    module.serving_default, module.encoded_images = serving_default, encoded_images
    functions = {DEFAULT_SIGNATURE: serving_default, ENCODED_SIGNATURE: encoded_images}
    with _as_os_errors():
        # A gradient of its own, such as that of swish, refers to tensors outside the function, and nothing trains here.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, str(folder), signatures=functions, options=options)


def read_weights(model: Any, scaling: InputScaling, dimensions: Dimensions, folder: Path) -> None:
    """Load the weights of a SavedModel by `write_saved_model` into a `keras.Model` of the same network.

    To match constants with weights, the model is frozen once with each weight filled with its index.

    Raises:
        ExportError: the SavedModel contains another network.
    """
    for number, variable in enumerate(model.variables):
        variable.assign(np.full(variable.shape, number))
    frozen = freeze(_from_pixels(model, scaling, 1.0), dimensions.input_shape)
    numbers = [int(values.flat[0]) for values in _weights(frozen.graph.as_graph_def().node)]
    saved = saved_model_pb2.SavedModel.FromString((folder / SAVED_MODEL_FILE).read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    found = [values for function in functions for values in _weights(function.node_def)]
    expected = [tuple(model.variables[number].shape) for number in numbers]
    if [values.shape for values in found] != expected or len(set(numbers)) != len(model.variables):
        raise ExportError(
            f"{folder} contains another network than {model.name}",
            expected="a version of the same architecture, exported by this project",
        )
    for number, values in zip(numbers, found, strict=True):
        model.variables[number].assign(values.astype(np.float32))


def halve_constants(graph: graph_pb2.GraphDef) -> graph_pb2.GraphDef:
    """Replace each float32 constant of 1,024 or more elements with a float16 constant and a Cast to float32."""
    halved = graph_pb2.GraphDef(versions=graph.versions, library=graph.library)
    for node in graph.node:
        if node.op != "Const" or node.attr["dtype"].type != tf.float32.as_datatype_enum:
            halved.node.append(node)
            continue
        values = tf.make_ndarray(node.attr["value"].tensor)
        if values.size < HALF_SIZE_FROM_ELEMENTS:
            halved.node.append(node)
            continue
        constant = halved.node.add(op="Const", name=f"{node.name}/float16")
        constant.attr["dtype"].type = tf.float16.as_datatype_enum
        constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values.astype(np.float16)))
        cast = halved.node.add(op="Cast", name=node.name, input=[constant.name])
        cast.attr["SrcT"].type = tf.float16.as_datatype_enum
        cast.attr["DstT"].type = tf.float32.as_datatype_enum
    return halved


def write_warm_up_requests(images: Images, model_name: str, file: Path) -> None:
    """Write the warm-up requests that TensorFlow Serving replays at load, a TFRecord of PredictionLog protos.

    Args:
        images: (n, height, width, 3) uint8, as many as the largest batch.
        model_name: name of the published model.
        file: the file to write.

    https://www.tensorflow.org/tfx/serving/saved_model_warmup
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with _as_os_errors(), tf.io.TFRecordWriter(str(file)) as writer:
        for rows in WARM_UP_BATCHES:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model_name
            request.model_spec.signature_name = DEFAULT_SIGNATURE
            request.inputs["images"].CopyFrom(tf.make_tensor_proto(images[:rows]))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Convert TensorFlow's own errors for a full or read-only disk to OSError."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(error.message) from None


def _from_pixels(model: Any, scaling: InputScaling, temperature: float) -> Callable[[Any], Any]:
    """Return a function from uint8 images to the model's probabilities."""

    def classify(images: Any) -> Any:
        pixels = scale_in_graph(tf.cast(images, tf.float32), scaling)
        return at_temperature_in_graph(model(pixels, training=False), temperature)

    return classify


def _weights(nodes: Iterable[Any]) -> list[NDArray[Any]]:
    """Return the constants that were variables, in the order of the graph's nodes."""
    return [
        tf.make_ndarray(node.attr["value"].tensor)
        for node in nodes
        if node.op == "Const" and FROM_VARIABLE in node.name
    ]


def _decode(encoded: Any, *, input_shape: InputShape) -> Any:
    """Decode one image to (height, width, 3) uint8, as the signature's description says."""
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    rows = tf.minimum(height, tf.maximum(1, width * input_shape[0] // input_shape[1]))
    columns = tf.minimum(width, tf.maximum(1, height * input_shape[1] // input_shape[0]))
    middle = tf.image.crop_to_bounding_box(image, (height - rows) // 2, (width - columns) // 2, rows, columns)
    resized = tf.image.resize(middle, input_shape[:2], method="bicubic", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)
