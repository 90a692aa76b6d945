"""Open a Keras model: a `.keras` file, or a legacy HDF5 file.

Keras builds the layers that the file names from its own classes. Lambda layers hold Python bytecode and are rejected
before Keras reads them; Keras' safe mode would reject them as well. Layers of other packages are built only from a
Python file that the user names.
"""

import importlib.util
import inspect
import json
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import h5py
import keras

from cifar10_serving.artifacts.metadata import Parameters
from cifar10_serving.text import printable
from training.errors import ModelImportError
from training.importing.source import Layout, Size, image_input, only_one, output_count
from training.importing.tensorflow_graph import GraphSource, one_line

LAMBDA: Final = "Lambda"
SCALING_LAYERS: Final = (keras.layers.Rescaling, keras.layers.Normalization)
LOOKED_AT: Final = 4
"""Layers from the input among which one that scales pixels is looked for."""
MAX_CONFIG_BYTES: Final = 2**26
CONFIG: Final = "config.json"
UNKNOWN_CLASS: Final = re.compile(r"(?:Could not locate (?:class|function)|Unknown [a-z ]+:?) '([^']{1,100})'")
REMEDY: Final = "define its class in a Python file and pass the file with --custom-objects"


def open_keras_file(file: Path, image_size: Size | None, custom_objects: Path | None) -> GraphSource:
    """Open a Keras model.

    Args:
        file: a `.keras` or HDF5 file, whatever its name.
        image_size: for models of any size.
        custom_objects: a Python file to run, with the classes of layers that Keras doesn't have.

    Raises:
        ModelImportError: it is not a Keras model, has code, or is not a classifier of images.
    """
    is_hdf5 = h5py.is_hdf5(file)
    _reject_code(_config_of(file, is_hdf5=is_hdf5))
    objects = run_custom_objects(custom_objects) if custom_objects is not None else {}
    model = _load(file, ".h5" if is_hdf5 else ".keras", objects)
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    preferred: Layout = "NCHW" if keras.config.image_data_format() == "channels_first" else "NHWC"
    if inputs:
        only_one([tensor.name for tensor in inputs], "input")
        source_input = image_input(inputs[0].shape, inputs[0].dtype, image_size, preferred)
    else:
        source_input = image_input(None, "float32", image_size, preferred)
    if outputs:
        only_one([tensor.name for tensor in outputs], "output")
        shape = outputs[0].shape
    else:
        spec = keras.KerasTensor((None, *source_input.size, 3), "float32")
        try:
            found = keras.backend.compute_output_spec(model, spec)
        except Exception as error:  # noqa: BLE001  # a model's own code may raise anything
            raise ModelImportError(f"Keras can't call the model: {one_line(error)}") from None
        shape = only_tensor(found).shape
    return GraphSource(
        "keras_h5" if is_hdf5 else "keras",
        lambda pixels: only_tensor(model(pixels, training=False)),
        source_input,
        output_count=output_count(shape),
        parameters=_parameters(model),
        architecture=f"Keras {type(model).__name__} '{printable(model.name)}', imported"[:200],
        scales_itself=any(isinstance(layer, SCALING_LAYERS) for layer in model.layers[:LOOKED_AT]),
    )


def only_tensor(values: Any) -> Any:
    """Return the only tensor of a model's outputs, which may be in a list or dictionary."""
    while isinstance(values, dict | list | tuple):
        entries = list(values.values()) if isinstance(values, dict) else list(values)
        if len(entries) != 1:
            raise ModelImportError(f"it has {len(entries)} outputs", expected="one output")
        values = entries[0]
    return values


def run_custom_objects(file: Path) -> dict[str, Any]:
    """Run a Python file, say so, and return its classes and functions by name.

    Raises:
        ModelImportError: it can't be run.
    """
    spec = importlib.util.spec_from_file_location("custom_objects", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ModelImportError(f"--custom-objects {file} is not a Python file", expected="a file ending in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    print(f"running {printable(str(file))}, as --custom-objects says", flush=True)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the user's code may raise anything
        raise ModelImportError(
            f"--custom-objects {file} can't be run: {type(error).__name__}: {one_line(error)}"
        ) from None
    return {
        name: value
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == spec.name
    }


def _load(file: Path, suffix: str, objects: dict[str, Any]) -> Any:
    with tempfile.TemporaryDirectory(prefix="import-") as folder:
        named = Path(folder, f"model{suffix}")  # Keras goes by the suffix
        named.symlink_to(file.resolve())
        try:
            return keras.models.load_model(named, custom_objects=objects, compile=False, safe_mode=True)
        except Exception as error:  # noqa: BLE001  # a damaged file, or the user's layers, may raise anything
            unknown = UNKNOWN_CLASS.search(str(error))
            if unknown:
                raise ModelImportError(
                    f"Keras has no '{printable(unknown[1])}', which {file} uses", remedy=REMEDY
                ) from None
            text = one_line(error).replace(str(named), str(file))
            raise ModelImportError(f"Keras {keras.__version__} can't load {file}: {text}") from None


def _config_of(file: Path, *, is_hdf5: bool) -> Any:
    try:
        text = _hdf5_config(file) if is_hdf5 else _zip_config(file)
        return json.loads(text)
    except (OSError, KeyError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise ModelImportError(
            f"{file} is not a complete Keras model: {one_line(error)}",
            expected="a file that model.save wrote, with architecture and weights",
            remedy="files of weights alone can't be imported: build the model, load them and use model.save",
        ) from None


def _hdf5_config(file: Path) -> str:
    with h5py.File(file) as content:
        config = content.attrs.get("model_config")
    if config is None:
        raise ValueError("it has weights without an architecture")
    return config.decode() if isinstance(config, bytes) else str(config)


def _zip_config(file: Path) -> str:
    with zipfile.ZipFile(file) as archive:
        if CONFIG not in archive.namelist():
            raise ValueError(f"it has no {CONFIG}")
        if archive.getinfo(CONFIG).file_size > MAX_CONFIG_BYTES:
            raise ValueError(f"its {CONFIG} is too large")
        return archive.read(CONFIG).decode()


def _reject_code(config: Any) -> None:
    named = [name for kind, name in _classes(config) if kind in {LAMBDA, "__lambda__"}]
    if named:
        raise ModelImportError(
            f"the layer '{printable(str(named[0]))}' is a Lambda: it holds Python code, and an import runs none",
            expected="layers of Keras",
            remedy=f"replace the Lambda by a layer of Keras, such as Rescaling, or a class of your own: {REMEDY}",
        )


def _classes(config: Any) -> Iterator[tuple[str, Any]]:
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value.get("class_name"), str):
                inner = value.get("config")
                yield value["class_name"], inner.get("name", "") if isinstance(inner, dict) else ""
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _parameters(model: Any) -> Parameters:
    def count(variables: Any) -> int:
        return sum(int(variable.shape.num_elements() or 0) for variable in (entry.value for entry in variables))

    return Parameters(total=count(model.weights), trainable=count(model.trainable_weights))
