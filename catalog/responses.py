"""The typed form of what the service answers: predictions, model lists, readiness, problems.

Here and not in the service, so that the client's results are the same classes. A version's metadata is
`catalog.metadata.ModelMetadata`.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from catalog.metadata import Count, Precision, Probability, Record, RuntimeName, Version


class ClassProbability(Record):
    """A class and the probability that the model gives it."""

    label: str
    class_id: Annotated[int, Field(ge=0, le=9)]
    probability: Probability


class Prediction(Record):
    """One image's answer, and which model and version gave it."""

    model: str
    version: Version
    label: Annotated[str, Field(description="the most probable class")]
    class_id: Annotated[int, Field(ge=0, le=9)]
    confidence: Annotated[Probability, Field(description="the probability of `label`")]
    top: Annotated[list[ClassProbability], Field(description="the `top_k` most probable classes, best first")]


class VersionState(StrEnum):
    """Where a version is on its way to serving: `published` is not chosen to serve, `draining` answers its last."""

    PUBLISHED = "published"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    DRAINING = "draining"


class VersionStatus(Record):
    """One published version as this service sees it; the figures are null where its metadata can't be read."""

    version: Version
    state: VersionState
    reason: Annotated[str | None, Field(description="why it failed, or is not loaded")] = None
    recipe: str | None = None
    test_accuracy: Annotated[
        Probability | None, Field(description="stored at publishing, of the artifact at the precision that serves")
    ] = None
    test_images: Annotated[Count | None, Field(description="how many images the accuracy was measured on")] = None
    parameters: Count | None = None
    size_bytes: Annotated[Count | None, Field(description="saved_model.pb")] = None
    load_time_ms: Annotated[float | None, Field(ge=0, description="verify, load, golden check, warm-up")] = None


class ShadowStatus(Record):
    """The version that computes on the side, and how often its most probable class was the one answered."""

    version: Version
    agreed: Count
    disagreed: Count
    dropped: Annotated[Count, Field(description="not computed, because the service had other work")]
    failed: Count


class ModelStatus(Record):
    """A model with all its versions."""

    name: str
    title: str
    state: Annotated[VersionState, Field(description="ready as soon as one version is")]
    default: Annotated[bool, Field(description="answers where no model is asked for")]
    serving_version: Annotated[
        Version | None, Field(description="answers where no version is asked for, unless `split` shares them out")
    ]
    policy: Annotated[str, Field(description="which versions serve")]
    labels: Annotated[dict[str, Version], Field(description="names to ask for a version by")]
    split: Annotated[dict[Version, Count] | None, Field(description="version -> weight")] = None
    shadow: ShadowStatus | None = None
    problem: Annotated[
        str | None, Field(description="why serving.json is not in force as it stands; what was before goes on")
    ] = None
    versions: list[VersionStatus]


class ModelList(Record):
    """Every model that the service knows of, and what computes."""

    models: list[ModelStatus]
    default_model: str | None
    runtime: RuntimeName
    runtime_version: str
    device: str
    precision: Precision


class VersionReference(Record):
    """A model's version."""

    model: str
    version: Version


class FailedVersion(VersionReference):
    """A version that could not be loaded; what served before goes on."""

    reason: str


class ReloadReport(Record):
    """What a look at the models folder changed."""

    loaded: list[VersionReference]
    unloaded: list[VersionReference]
    failed: list[FailedVersion]
    problems: Annotated[list[str], Field(description="what can't be read, such as a broken serving.json")]


class Liveness(Record):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Readiness(Record):
    """Whether requests are answered: loading is over and at least one model is ready."""

    ready: bool
    reason: Annotated[str | None, Field(description="why not")] = None
    models: Annotated[dict[str, VersionState], Field(description="model -> its state")]


class InvalidParameter(Record):
    """A parameter of the request that is not what it must be."""

    name: str
    value: str
    expected: str


class Problem(Record):
    """An error, as RFC 9457 writes it."""

    type: Annotated[str, Field(description="names the kind of problem; stable")]
    title: Annotated[str, Field(description="the kind of problem in words")]
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Annotated[str, Field(description="what was wrong this time")]
    expected: Annotated[str | None, Field(description="what would have been right")] = None
    remedy: Annotated[str | None, Field(description="what to do")] = None
    available: Annotated[list[str] | None, Field(description="what there is, where a name was not found")] = None
    invalid_parameters: list[InvalidParameter] | None = None
