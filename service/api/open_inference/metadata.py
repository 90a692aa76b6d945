"""What the protocol tells of the server and of a model, the same over REST and gRPC."""

from typing import Final

from pydantic import BaseModel

from catalog import PROJECT_VERSION
from catalog.metadata import TensorSpec
from catalog.rollout import LEGAL_VERSION, parse_version
from service.api.native import metadata_of
from service.api.tensors import IMAGES
from service.core.repository import ModelRepository
from service.errors import InvalidRequestError

SERVER_NAME: Final = "cifar10-serving"
PLATFORM: Final = "tensorflow_savedmodel"
DATATYPE_OF: Final = {"uint8": "UINT8", "float32": "FP32", "string": "BYTES"}
EXTENSIONS: Final = ("binary_tensor_data", "classification", "model_configuration", "statistics")
REPOSITORY_EXTENSION: Final = "model_repository"


class ServerMetadata(BaseModel):
    """The server."""

    name: str = SERVER_NAME
    version: str = PROJECT_VERSION
    extensions: list[str]


class TensorMetadata(BaseModel):
    """A tensor; -1 in `shape` is the batch."""

    name: str
    datatype: str
    shape: list[int]


class ModelDescription(BaseModel):
    """A model; `versions` are those that can be asked for now."""

    name: str
    versions: list[str]
    platform: str = PLATFORM
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


def extensions(*, with_repository: bool) -> list[str]:
    """The protocol's extensions that this server speaks."""
    return [*EXTENSIONS, REPOSITORY_EXTENSION] if with_repository else list(EXTENSIONS)


def requested_version(text: str) -> int | str | None:
    """The version in a request, a number or a label; None where the text is empty.

    Raises:
        InvalidRequestError: it is neither.
    """
    if not text:
        return None
    try:
        return parse_version(text)
    except ValueError:
        raise InvalidRequestError(f"{text[:100]!r} is not a valid version", expected=LEGAL_VERSION) from None


def describe_model(repository: ModelRepository, name: str, version: str) -> ModelDescription:
    """A model that is ready, from its own metadata.

    Args:
        version: a number or a label; empty for the one that answers where none is asked for.

    Raises:
        RequestError: there is no such model or version, or it is not ready.
    """
    metadata = metadata_of(repository.find(name, requested_version(version)))
    signature = next(known for known in metadata.signatures if known.inputs[0].name == IMAGES)
    return ModelDescription(
        name=name,
        versions=[str(number) for number in repository.answering_versions(name)],
        inputs=[_tensor(spec) for spec in signature.inputs],
        outputs=[_tensor(spec) for spec in signature.outputs],
    )


def _tensor(spec: TensorSpec) -> TensorMetadata:
    return TensorMetadata(name=spec.name, datatype=DATATYPE_OF[spec.dtype], shape=spec.shape)
