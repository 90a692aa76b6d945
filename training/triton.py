"""Write published versions as a model repository for Triton's OpenVINO backend.

Triton's TensorFlow backend is deprecated since 25.03. Its OpenVINO backend expects the SavedModel in a folder
`model.saved_model` and a config.pbtxt beside the versions
(https://github.com/triton-inference-server/openvino_backend, "Loading non default model format").
"""

import json
import shutil
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.files import write_published
from cifar10_serving.artifacts.layout import STAGING_PREFIX, read_metadata, verify, version_folder
from cifar10_serving.artifacts.metadata import SAVED_MODEL_FILE, ModelMetadata, SignatureSpec, TensorSpec
from cifar10_serving.errors import PublishError

MODEL_FOLDER: Final = "model.saved_model"
CONFIG_FILE: Final = "config.pbtxt"
LABELS_FILE: Final = "labels.txt"
SIGNATURE: Final = "serving_default"
DATA_TYPES: Final = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}
BACKEND: Final = "openvino"


def write_triton_repository(models: Path, name: str, version: int, repository: Path) -> Path:
    """Add a published version to a model repository, and return the model's folder there.

    The model's config.pbtxt and labels.txt are replaced by those of the added version.

    Args:
        repository: created if it doesn't exist; other models and versions in it are kept.

    Raises:
        ArtifactError: the version is incomplete or damaged.
        PublishError: the version has no SavedModel, or the repository can't be written to or already has it.
    """
    source = version_folder(models, name, version)
    metadata = read_metadata(source)
    if not has_saved_model(metadata):
        raise PublishError(
            f"{source} has no {SAVED_MODEL_FILE}, as it was imported from ONNX",
            expected="a version with a SavedModel",
            remedy="give Triton the ONNX file itself, or import the model from Keras or a SavedModel",
        )
    verify(source, metadata)
    model = repository / name
    target = model / str(version)
    staging = model / f"{STAGING_PREFIX}{version}"
    if target.exists():
        raise PublishError(f"{target} already exists", remedy="delete it, or choose another folder with --to")
    try:
        (staging / MODEL_FOLDER).mkdir(parents=True)
        for file in metadata.files:
            if file == SAVED_MODEL_FILE or file.startswith("variables/"):
                copy = staging / MODEL_FOLDER / file
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(source / file, copy)
        staging.rename(target)
    except OSError as error:
        raise PublishError(
            f"can't write {target}: {error.strerror}", expected="a writable folder with enough free space"
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    write_published(model / CONFIG_FILE, triton_configuration(metadata))
    write_published(model / LABELS_FILE, "\n".join(metadata.labels))
    return model


def has_saved_model(metadata: ModelMetadata) -> bool:
    """Return True for a version that Triton can load: those imported from ONNX have no SavedModel."""
    return SAVED_MODEL_FILE in metadata.files


def triton_configuration(metadata: ModelMetadata) -> str:
    """Return a version's config.pbtxt, a `ModelConfig` in protobuf's text format.

    `max_batch_size` is 0, so that the first dimension is the model's own and any batch size works. With another value
    the backend accepts only batches of exactly that size.
    """
    signature = next(entry for entry in metadata.signatures if entry.name == SIGNATURE)
    return "\n".join(
        [
            f'name: "{metadata.name}"',
            f'backend: "{BACKEND}"',
            f'default_model_filename: "{MODEL_FOLDER}"',
            "max_batch_size: 0",
            *_tensors(signature),
        ]
    )


def _tensors(signature: SignatureSpec) -> list[str]:
    inputs = [f"input {{ {_tensor(tensor)} }}" for tensor in signature.inputs]
    outputs = [f'output {{ {_tensor(tensor)}, label_filename: "{LABELS_FILE}" }}' for tensor in signature.outputs]
    return inputs + outputs


def _tensor(tensor: TensorSpec) -> str:
    return f"name: {json.dumps(tensor.name)}, data_type: {DATA_TYPES[tensor.dtype]}, dims: {tensor.shape}"
