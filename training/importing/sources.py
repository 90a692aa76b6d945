"""Open a model by the content of its file or folder, whatever its name."""

import hashlib
import zipfile
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.files import regular_files
from cifar10_serving.artifacts.layout import file_record
from cifar10_serving.artifacts.metadata import SAVED_MODEL_FILE, SourceKind
from training.errors import ModelImportError
from training.importing.source import Size, Source

HDF5_START: Final = b"\x89HDF\r\n\x1a\n"
ZIP_START: Final = b"PK\x03\x04"
ONNX_SUFFIX: Final = ".onnx"
PYTORCH_PARTS: Final = ("data.pkl", "constants.pkl")
EXPECTED: Final = "a .keras, .h5 or .onnx file, or the folder of a SavedModel"
OTHER_FORMATS: Final[dict[str, tuple[str, str]]] = {
    ".pt": ("PyTorch", "export it with torch.onnx.export"),
    ".pth": ("PyTorch", "export it with torch.onnx.export"),
    ".safetensors": ("weights alone", "build the model, load the weights and save it as .keras or .onnx"),
    ".tflite": ("TensorFlow Lite", "import the model that it was converted from"),
    ".pkl": ("a pickle", "save the model as .keras or .onnx"),
    ".pb": ("a part of a SavedModel", "pass the folder that holds saved_model.pb"),
}


def open_source(path: Path, image_size: Size | None, custom_objects: Path | None) -> Source:
    """Open a model.

    Args:
        path: a `.keras`, HDF5 or ONNX file, or the folder of a SavedModel.
        image_size: height and width, for models of any size.
        custom_objects: a Python file to run, with the classes of layers that Keras doesn't have.

    Raises:
        ModelImportError: there is no such file, it is something else, or it can't be imported.
    """
    kind = source_kind(path)
    if custom_objects is not None and kind not in ("keras", "keras_h5"):
        raise ModelImportError(
            f"--custom-objects with {path}", expected="a Keras file; other formats need no classes of layers"
        )
    if kind == "saved_model":
        from training.importing.saved_model_folder import open_saved_model_folder

        return open_saved_model_folder(path, image_size)
    if kind == "onnx":
        from training.importing.onnx_file import open_onnx_file

        return open_onnx_file(path, image_size)
    from training.importing.keras_file import open_keras_file

    return open_keras_file(path, image_size, custom_objects)


def source_kind(path: Path) -> SourceKind:
    """Return the format of a file or folder.

    Raises:
        ModelImportError: there is no such file, or it is something else.
    """
    if path.is_dir():
        return _folder_kind(path)
    try:
        with path.open("rb") as stream:
            start = stream.read(len(HDF5_START))
    except OSError as error:
        raise ModelImportError(f"{path} can't be read: {error.strerror}", expected=EXPECTED) from None
    if start == HDF5_START:
        return "keras_h5"
    if start.startswith(ZIP_START):
        return _archive_kind(path)
    if path.suffix.lower() == ONNX_SUFFIX and start:
        return "onnx"
    raise _something_else(path, "it is empty" if not start else "")


def source_sha256(path: Path) -> tuple[str, int]:
    """Return the SHA-256 and the size of a model; of several files, over each one's path and SHA-256.

    Raises:
        OSError: it can't be read.
    """
    if path.is_dir():
        folder, names = path, sorted(regular_files(path))
    else:
        from training.importing.onnx_file import external_files

        folder = path.parent
        names = [path.name, *(external_files(path) if source_kind(path) == "onnx" else [])]
    records = {name: file_record(folder / name) for name in names}
    size_bytes = sum(record.size_bytes for record in records.values())
    if len(records) == 1 and not path.is_dir():
        return records[path.name].sha256, size_bytes
    lines = "".join(f"{name}\0{record.sha256}\n" for name, record in records.items())
    return hashlib.sha256(lines.encode()).hexdigest(), size_bytes


def _folder_kind(path: Path) -> SourceKind:
    if (path / SAVED_MODEL_FILE).is_file():
        return "saved_model"
    if not any(path.iterdir()):
        raise ModelImportError(f"the folder {path} is empty", expected=EXPECTED)
    raise ModelImportError(f"the folder {path} has no {SAVED_MODEL_FILE}", expected=EXPECTED)


def _archive_kind(path: Path) -> SourceKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {Path(name).name for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        raise _something_else(path, "it is a damaged archive") from None
    if "config.json" in names:
        return "keras"
    if names.intersection(PYTORCH_PARTS):
        raise ModelImportError(
            f"{path} is a PyTorch file, which holds code", expected=EXPECTED, remedy="export it with torch.onnx.export"
        )
    raise _something_else(path, "it is an archive of something else")


def _something_else(path: Path, why: str) -> ModelImportError:
    suffix = path.suffix.lower()
    if suffix in OTHER_FORMATS:
        what, remedy = OTHER_FORMATS[suffix]
        return ModelImportError(f"{path} is {what}", expected=EXPECTED, remedy=remedy)
    return ModelImportError(f"{path} is not a model{f': {why}' if why else ''}", expected=EXPECTED)
