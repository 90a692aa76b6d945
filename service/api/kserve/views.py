"""Models in the terms of the Open Inference Protocol and Triton's extensions: metadata, configuration, statistics."""

import json
import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from cifar10_serving import __version__
from cifar10_serving.artifacts.metadata import TensorSpec
from service.api.kserve.codec import requested_version
from service.api.models import metadata_of
from service.registry.repository import ModelRepository
from service.settings import Settings
from service.telemetry.reports import Telemetry
from service.telemetry.stats import Duration, Histogram, VersionStats

SERVER_NAME: Final = "cifar10-serving"
PLATFORM: Final = "tensorflow_savedmodel"
DATATYPE_OF: Final = {"uint8": "UINT8", "float32": "FP32", "string": "BYTES"}
EXTENSIONS: Final = ("binary_tensor_data", "classification", "model_configuration", "statistics")
REPOSITORY_EXTENSION: Final = "model_repository"
DATA_TYPES: Final = {"UINT8": "TYPE_UINT8", "FP32": "TYPE_FP32"}
CHANNELS_LAST: Final = "FORMAT_NHWC"
LATEST: Final = re.compile(r"latest\((\d+)\)")
Count = Annotated[int, Field(ge=0)]


class ServerMetadata(BaseModel):
    """The server."""

    name: str = SERVER_NAME
    version: str = __version__
    extensions: list[str]


class TensorMetadata(BaseModel):
    """A tensor; -1 in `shape` is the batch dimension."""

    name: str
    datatype: str
    shape: list[int]


class ModelDescription(BaseModel):
    """A model; `versions` are the ready ones."""

    name: str
    versions: list[str]
    platform: str = PLATFORM
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


def extensions(*, with_repository: bool) -> list[str]:
    """Return the supported extensions of the protocol."""
    return [*EXTENSIONS, REPOSITORY_EXTENSION] if with_repository else list(EXTENSIONS)


def describe_model(repository: ModelRepository, name: str, version: str) -> ModelDescription:
    """Describe a ready model, from its own metadata.

    Args:
        version: number or label of the version; empty for the serving one.

    Raises:
        RequestError: there is no such model or version, or it is not ready.
    """
    metadata = metadata_of(repository.find(name, requested_version(version)))
    signature = metadata.serving_signature
    return ModelDescription(
        name=name,
        versions=[str(number) for number in repository.answering_versions(name)],
        inputs=[_tensor(spec) for spec in signature.inputs],
        outputs=[_tensor(spec) for spec in signature.outputs],
    )


def _tensor(spec: TensorSpec) -> TensorMetadata:
    return TensorMetadata(name=spec.name, datatype=DATATYPE_OF[spec.dtype], shape=spec.shape)


def model_configuration(repository: ModelRepository, settings: Settings, name: str, version: str) -> dict[str, Any]:
    """Return the configuration of a model, in protobuf's JSON, from its metadata and the service's settings.

    `max_batch_size` is the limit for one request, `preferred_batch_size` the size of a batch.

    Args:
        version: number or label of the version; empty for the serving one.

    Raises:
        RequestError: there is no such model or version, or it is not ready.
    """
    described = describe_model(repository, name, version)
    return {
        "name": name,
        "platform": PLATFORM,
        "backend": str(repository.runtime.name),
        "version_policy": _version_policy(repository.model_status(name).policy),
        "max_batch_size": settings.max_images_per_request,
        "input": [_tensor_configuration(tensor) | {"format": CHANNELS_LAST} for tensor in described.inputs],
        "output": [_tensor_configuration(tensor) for tensor in described.outputs],
        "dynamic_batching": {
            "preferred_batch_size": [settings.max_batch_size],
            "max_queue_delay_microseconds": round(settings.max_batch_delay_ms * 1000),
        },
        "response_cache": {"enable": settings.cache_bytes > 0},
    }


def _tensor_configuration(tensor: TensorMetadata) -> dict[str, Any]:
    """Return a tensor's configuration without its first dimension, the batch."""
    return {"name": tensor.name, "data_type": DATA_TYPES[tensor.datatype], "dims": tensor.shape[1:]}


def _version_policy(policy: str) -> dict[str, Any]:
    """Return Triton's form of a policy."""
    latest = LATEST.fullmatch(policy)
    if latest is not None:
        return {"latest": {"num_versions": int(latest[1])}}
    return {"all": {}} if policy == "all" else {"specific": {"versions": json.loads(policy)}}


class DurationStatistics(BaseModel):
    """Number of events, and their total duration in nanoseconds."""

    count: Count = 0
    ns: Count = 0


class InferStatistics(BaseModel):
    """Statistics of a version's requests; values that are not measured separately stay 0."""

    success: DurationStatistics
    fail: DurationStatistics
    queue: DurationStatistics
    compute_input: Annotated[DurationStatistics, Field(description="from a whole request to its pixels")]
    compute_infer: DurationStatistics
    compute_output: Annotated[DurationStatistics, Field(description="part of compute_infer")] = DurationStatistics()
    cache_hit: Annotated[DurationStatistics, Field(description="how often; the time is not measured apart")]
    cache_miss: Annotated[DurationStatistics, Field(description="not counted by version")] = DurationStatistics()


class BatchStatistics(BaseModel):
    """Statistics of a version's batches of one size."""

    batch_size: Count
    compute_input: DurationStatistics = DurationStatistics()
    compute_infer: DurationStatistics
    compute_output: DurationStatistics = DurationStatistics()


class VersionReport(BaseModel):
    """A version's statistics."""

    name: str
    version: str
    last_inference: Annotated[Count, Field(description="milliseconds since the epoch; 0: never")]
    inference_count: Annotated[Count, Field(description="images that were computed")]
    execution_count: Annotated[Count, Field(description="batches that were computed")]
    inference_stats: InferStatistics
    batch_stats: list[BatchStatistics]


class StatisticsReport(BaseModel):
    """Statistics of serving versions."""

    model_stats: list[VersionReport]


def statistics_report(
    repository: ModelRepository, telemetry: Telemetry, name: str = "", version: str = ""
) -> StatisticsReport:
    """Return the statistics of one version, of all versions of a model, or of all serving versions.

    Args:
        name: name of the model; empty for all models.
        version: number or label of the version; empty for all versions.

    Raises:
        RequestError: there is no such model or version, or it is not ready.
    """
    names = [name] if name else [model.name for model in repository.status().models]
    if version:
        chosen = [(name, repository.find(name, requested_version(version)).version)]
    else:
        chosen = [(known, number) for known in names for number in repository.answering_versions(known)]
    counted = telemetry.snapshot().versions
    return StatisticsReport(model_stats=[_report(*each, counted.get(each) or VersionStats()) for each in chosen])


def _report(name: str, version: int, known: VersionStats) -> VersionReport:
    return VersionReport(
        name=name,
        version=str(version),
        last_inference=int(known.last_inference_s * 1000),
        inference_count=known.rows,
        execution_count=known.executions,
        inference_stats=InferStatistics(
            success=_duration(known.success),
            fail=_duration(known.fail),
            queue=_summed(known.queue_s),
            compute_input=_summed(known.decode_s),
            compute_infer=_duration(known.request_compute),
            cache_hit=DurationStatistics(count=known.cached),
        ),
        batch_stats=[
            BatchStatistics(batch_size=rows, compute_infer=_duration(batch))
            for rows, batch in sorted(known.batches.items())
        ],
    )


def _duration(duration: Duration) -> DurationStatistics:
    return DurationStatistics(count=duration.count, ns=round(duration.total_s * 1e9))


def _summed(histogram: Histogram) -> DurationStatistics:
    return DurationStatistics(count=histogram.count, ns=round(histogram.total * 1e9))
