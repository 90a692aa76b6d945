"""Triton's statistics extension, the same over REST and gRPC: a view of the counts of all workers.

https://docs.nvidia.com/deeplearning/triton-inference-server, "Statistics Extension"
"""

from typing import Annotated

from pydantic import BaseModel, Field

from service.api.open_inference.metadata import requested_version
from service.core.repository import ModelRepository
from service.telemetry.stats import Duration, Histogram, VersionStats
from service.telemetry.telemetry import Telemetry

Count = Annotated[int, Field(ge=0)]


class DurationStatistics(BaseModel):
    """How often, and how long altogether in nanoseconds."""

    count: Count = 0
    ns: Count = 0


class InferStatistics(BaseModel):
    """Of a version's requests; what is not measured apart, or never happens here, stays 0."""

    success: DurationStatistics
    fail: DurationStatistics
    queue: DurationStatistics
    compute_input: Annotated[DurationStatistics, Field(description="from a whole request to its pixels")]
    compute_infer: DurationStatistics
    compute_output: Annotated[DurationStatistics, Field(description="part of compute_infer")] = DurationStatistics()
    cache_hit: Annotated[DurationStatistics, Field(description="how often; the time is not measured apart")]
    cache_miss: Annotated[DurationStatistics, Field(description="not counted by version")] = DurationStatistics()


class BatchStatistics(BaseModel):
    """Of a version's batches of one size."""

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
    """The statistics of versions that answer."""

    model_stats: list[VersionReport]


def statistics_report(
    repository: ModelRepository, telemetry: Telemetry, name: str = "", version: str = ""
) -> StatisticsReport:
    """The statistics of one version, of all of a model, or of all that answer.

    Args:
        name: empty for all models.
        version: a number or a label; empty for all versions.

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
