"""The schemas of the service's answers: predictions, comparisons, model lists, readiness, problems.

They are here and not in the service, so that the client's results are the same classes. A version's metadata is
`cifar10_serving.artifacts.metadata.ModelMetadata`.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from cifar10_serving.artifacts.metadata import (
    MAX_SIDE,
    ClassId,
    Count,
    Precision,
    Probability,
    Record,
    RuntimeName,
    Version,
)
from cifar10_serving.artifacts.tutorial import TutorialResult

Milliseconds = Annotated[float, Field(ge=0)]


class VersionReference(Record):
    """A version of a model."""

    model: str
    version: Version


class ClassProbability(Record):
    """A class with its probability."""

    label: str
    class_id: ClassId
    probability: Probability


class Prediction(VersionReference):
    """The answer for one image, with the model and version that gave it."""

    label: Annotated[str, Field(description="the most probable class")]
    class_id: ClassId
    confidence: Annotated[Probability, Field(description="the probability of `label`")]
    precision: Annotated[
        Precision | None, Field(description="in which it was computed; null from servers before 0.2")
    ] = None
    top: Annotated[list[ClassProbability], Field(description="the `top_k` most probable classes, best first")]


class InvalidParameter(Record):
    """A parameter of the request that is not valid."""

    name: str
    value: str
    expected: str


class Problem(Record):
    """An error document as defined by RFC 9457."""

    type: Annotated[str, Field(description="names the kind of problem; stable")]
    title: Annotated[str, Field(description="the kind of problem in words")]
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Annotated[str, Field(description="what was wrong this time")]
    expected: Annotated[str | None, Field(description="what would have been right")] = None
    remedy: Annotated[str | None, Field(description="what to do")] = None
    available: Annotated[list[str] | None, Field(description="the names that exist, if a name was not found")] = None
    invalid_parameters: list[InvalidParameter] | None = None


class BatchResult(Record):
    """The result for one file in a request with several: a prediction or an error."""

    name: Annotated[str | None, Field(description="the file's name as it was sent")] = None
    prediction: Prediction | None = None
    error: Problem | None = None


class BatchPrediction(VersionReference):
    """The answer for several files, with the model and version that gave it."""

    results: Annotated[list[BatchResult], Field(description="one per file, in the order in which the files were sent")]


class Timings(Record):
    """The timings of an answer."""

    decode_ms: Annotated[Milliseconds, Field(description="from the file to the pixels, once for all models")]
    queue_ms: Annotated[Milliseconds, Field(description="from the pixels to the start of their batch")]
    compute_ms: Annotated[Milliseconds, Field(description="of the batch in the runtime")]


class ModelAnswer(VersionReference):
    """One model's answer for the picture, or its error."""

    prediction: Prediction | None = None
    error: Problem | None = None
    timings: Annotated[Timings | None, Field(description="null if nothing was computed")] = None


class Agreement(Record):
    """The majority vote, by the labels' texts; of the largest group of models that share labels."""

    label: Annotated[
        str | None,
        Field(description="the most frequent answer; in a tie, the more confident one; null if no model answered"),
    ]
    models: Annotated[Count, Field(description="how many models gave this answer")]
    of: Annotated[Count, Field(description="how many models answered that can be compared")]


class Comparison(Record):
    """Several models' answers for one picture, computed one after another."""

    answers: Annotated[
        list[ModelAnswer], Field(description="in the order of the request, or of /models if it names none")
    ]
    agreement: Agreement
    not_comparable: list[VersionReference] = Field(
        default_factory=list,
        description="versions that answered and share no label with those that `agreement` counts",
    )
    decode_ms: Milliseconds
    model_input: Annotated[
        str,
        Field(
            description="what the models saw, as a PNG in a data URL; if their input sizes differ, "
            "what the first one saw",
            pattern="^data:",
        ),
    ]


class Explanation(VersionReference):
    """Parts of the picture that mattered: how much the class's probability falls when a patch hides them."""

    label: Annotated[str, Field(description="the class that is explained")]
    class_id: ClassId
    confidence: Annotated[Probability, Field(description="probability of that class for the whole picture")]
    patch_pixels: Annotated[int, Field(ge=1, le=MAX_SIDE, description="side of the square that hides a part")]
    stride_pixels: Annotated[int, Field(ge=1, le=MAX_SIDE, description="distance from one square to the next")]
    importance: Annotated[
        list[list[float]],
        Field(
            description="for each pixel of the model's input, row by row from the top left: how much the probability "
            "falls, -1 to 1, the mean over all squares that hide the pixel"
        ),
    ]
    images: Annotated[Count, Field(description="number of images computed: the whole picture and one for each square")]


class VersionState(StrEnum):
    """The state of a version: `published` means not selected to serve, `draining` finishing its last requests."""

    PUBLISHED = "published"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    DRAINING = "draining"


class VersionStatus(Record):
    """The status of one published version; values are null if its metadata can't be read."""

    version: Version
    state: VersionState
    reason: Annotated[str | None, Field(description="why it failed, or is not loaded")] = None
    recipe: str | None = None
    precision: Annotated[Precision | None, Field(description="in which it answers; null while it is not loaded")] = None
    test_accuracy: Annotated[
        Probability | None, Field(description="measured when the version was published, in the precision that serves")
    ] = None
    test_images: Annotated[Count | None, Field(description="how many images the accuracy was measured on")] = None
    parameters: Count | None = None
    classes: Annotated[Count | None, Field(description="how many labels it has")] = None
    label_set: Annotated[
        str | None, Field(description="the same text for versions with the same labels, in whatever order")
    ] = None
    first_labels: Annotated[list[str] | None, Field(description="the first three labels, by which to tell them")] = None
    input_shape: Annotated[
        list[int] | None, Field(description="height, width and channels of the images that it takes")
    ] = None
    size_bytes: Annotated[Count | None, Field(description="saved_model.pb")] = None
    load_time_ms: Annotated[float | None, Field(ge=0, description="verify, load, golden check, warm-up")] = None


class ShadowStatus(Record):
    """The shadow version, and how often its most probable class matched the answer."""

    version: Version
    agreed: Count
    disagreed: Count
    dropped: Annotated[Count, Field(description="not computed, because the service had other work")]
    failed: Count


class ModelStatus(Record):
    """The status of a model with all its versions."""

    name: str
    title: str
    state: Annotated[VersionState, Field(description="ready as soon as one version is")]
    default: Annotated[bool, Field(description="answers requests that name no model")]
    serving_version: Annotated[
        Version | None, Field(description="answers requests that name no version, unless `split` distributes them")
    ]
    policy: Annotated[str, Field(description="which versions serve")]
    labels: Annotated[dict[str, Version], Field(description="names by which a request can select a version")]
    split: Annotated[dict[Version, Count] | None, Field(description="version -> weight")] = None
    shadow: ShadowStatus | None = None
    problem: Annotated[
        str | None, Field(description="why serving.json is not in effect; the previous rollout stays")
    ] = None
    tutorial: Annotated[TutorialResult | None, Field(description="the tutorial's published result for this model")] = (
        None
    )
    versions: list[VersionStatus]


class ModelList(Record):
    """All models, and the runtime."""

    models: list[ModelStatus]
    default_model: str | None
    runtime: RuntimeName
    runtime_version: str
    device: str
    precision: Annotated[Precision, Field(description="the default model's; each version has its own")]


class FailedVersion(VersionReference):
    """A version that could not be loaded; the previous versions keep serving."""

    reason: str


class ReloadReport(Record):
    """The changes found by a scan of the models folder."""

    loaded: list[VersionReference]
    unloaded: list[VersionReference]
    failed: list[FailedVersion]
    problems: Annotated[list[str], Field(description="what can't be read, such as a broken serving.json")]


class Liveness(Record):
    """The process is alive."""

    status: Literal["alive"] = "alive"


class ServiceStatistics(Record):
    """Statistics of the prediction requests since the start.

    With several workers, the sum over all of them; the other workers' numbers are at most a second old.
    """

    uptime_s: Annotated[float, Field(ge=0)]
    requests_total: Count
    requests_per_s: Annotated[float, Field(ge=0, description="over the last ten seconds")]
    queue_rows: Annotated[Count, Field(description="images that wait to be computed")]
    pending_requests: Annotated[Count, Field(description="requests being received, waiting or computed")]
    p50_ms: Annotated[
        Milliseconds | None, Field(description="half of the last thousand answers of each process took no longer")
    ]
    p99_ms: Annotated[Milliseconds | None, Field(description="99 in 100 of them took no longer")]
    rejected_total: Annotated[Count, Field(description="requests that got 503")]
    instance: Annotated[str, Field(description="name of the instance that answers")] = ""


class InstanceModel(Record):
    """A model on one instance. With several workers: what all of them have."""

    ready: Annotated[list[Version], Field(description="versions that answer, ascending")]
    loading: list[Version]
    failed: list[Version]
    rollout: Annotated[
        str | None,
        Field(description="generation of the serving.json in force; 'default' without one, null if workers differ"),
    ]
    next_rollout: Annotated[
        str | None, Field(description="generation of a serving.json that isn't in force yet: a version is missing")
    ] = None
    problem: Annotated[str | None, Field(description="why serving.json is invalid")] = None


class StoreStatus(Record):
    """The store that an instance mirrors."""

    address: str
    problem: Annotated[str | None, Field(description="why it can't be followed")] = None
    answered_ago_s: Annotated[float | None, Field(ge=0, description="since the store's last answer; null: never")]


class InstanceStatus(Record):
    """The versions and rollouts of the instance that answers, to compare it with others."""

    instance: Annotated[str, Field(description="its name, by the setting `instance`")]
    release: Annotated[str, Field(description="of this project")]
    ready: bool
    workers: Annotated[int, Field(ge=1, description="processes; the others' state is at most a second old")]
    models: dict[str, InstanceModel]
    store: StoreStatus | None = None


class Readiness(Record):
    """True if requests are answered: loading is finished and at least one model is ready."""

    ready: bool
    reason: Annotated[str | None, Field(description="why not ready, or what is wrong although ready")] = None
    models: Annotated[dict[str, VersionState], Field(description="model -> its state")]
