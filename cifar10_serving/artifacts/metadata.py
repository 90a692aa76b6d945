"""The schema of metadata.json: a version's contents, training run and evaluations.

The service answers with the same JSON; API schema, documentation and client derive from these classes.
`cifar10_serving.artifacts.layout` reads and writes the files.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, model_validator

Precision = Literal["float32", "bfloat16"]
RuntimeName = Literal["openvino", "tensorflow"]
SplitName = Literal["test", "validation"]
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MAX_VERSION_DIGITS: Final = 9
Version = Annotated[int, Field(ge=1, lt=10**MAX_VERSION_DIGITS, description="1 and up, in the order of publishing")]
MAX_FILE_BYTES: Final = 2**31
"""Limit of a protobuf message, such as saved_model.pb."""
NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"
ModelName = Annotated[str, Field(pattern=NAME_PATTERN, description="of the folder, and in URLs", examples=["vgg16"])]
MAX_TITLE: Final = 200
ServedName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]
SIGNATURE: Final = "serving_default"
IMAGES: Final = "images"
"""The signature's input, which takes pixels."""
PROBABILITIES: Final = "probabilities"
"""The signature's output."""
MIN_CLASSES: Final = 2
MAX_CLASSES: Final = 10_000
MAX_LABEL: Final = 200
MIN_SIDE: Final = 8
MAX_SIDE: Final = 1024
"""Limits of an image's height and width in pixels."""
CHANNELS: Final = 3
MAX_SIGNATURES: Final = 16
MAX_TENSORS: Final = 16
MAX_DIMENSIONS: Final = 8

InputShape = tuple[int, int, int]
"""Height, width and channels of an image that a version takes."""


def _printable(label: str) -> str:
    if not label.isprintable() or label.strip() != label:
        raise ValueError("should be printable text without blanks around it")
    return label


def _distinct(labels: list[str]) -> list[str]:
    if len(set(labels)) < len(labels):
        raise ValueError("should name each class once")
    return labels


Label = Annotated[str, Field(min_length=1, max_length=MAX_LABEL), AfterValidator(_printable)]
Labels = Annotated[
    list[Label],
    Field(min_length=MIN_CLASSES, max_length=MAX_CLASSES, description="of the classes, in the order of the output"),
    AfterValidator(_distinct),
]
ClassId = Annotated[int, Field(ge=0, lt=MAX_CLASSES, description="the class's place among the model's labels")]


def _inside(name: str) -> str:
    parts = name.split("/")
    if not name.isprintable() or {"\\", ":"} & set(name) or any(part.strip(". ") == "" for part in parts):
        raise ValueError("should be the path of a file inside the version's folder, such as plots/learning_curves.svg")
    return name


FileName = Annotated[str, Field(max_length=255), AfterValidator(_inside)]
"""A file of the version by its path relative to the folder, which can't lead out of it on any system."""
PlotName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
PlotFile = Annotated[FileName, Field(pattern=r"^plots/[^/]+\.svg$")]
GoldenFile = Annotated[FileName, Field(pattern=r"^[^/]+\.npz$")]


class Record(BaseModel):
    """An immutable record without unknown fields: a misspelt key is an error, not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class TensorSpec(Record):
    """A named tensor of a signature; -1 in `shape` is the batch dimension."""

    name: ServedName
    dtype: Literal["uint8", "float32", "string"]
    shape: Annotated[list[int], Field(max_length=MAX_DIMENSIONS)]
    description: str


class SignatureSpec(Record):
    """One signature of the SavedModel, as clients call it."""

    name: ServedName
    inputs: Annotated[list[TensorSpec], Field(min_length=1, max_length=MAX_TENSORS)]
    outputs: Annotated[list[TensorSpec], Field(min_length=1, max_length=MAX_TENSORS)]


def _answering(signatures: list[SignatureSpec]) -> SignatureSpec | None:
    """Return the signature that maps pixels to probabilities."""
    return next((known for known in signatures if (known.name, known.inputs[0].name) == (SIGNATURE, IMAGES)), None)


def _with_images(signatures: list[SignatureSpec]) -> list[SignatureSpec]:
    answering = _answering(signatures)
    if answering is None:
        raise ValueError(f"should have the signature '{SIGNATURE}' with the input '{IMAGES}'")
    if not _takes_images(answering.inputs[0]):
        raise ValueError(
            f"should have the input '{IMAGES}' of the type uint8 and the shape [-1, height, width, {CHANNELS}], "
            f"height and width from {MIN_SIDE} to {MAX_SIDE}"
        )
    return signatures


def _takes_images(tensor: TensorSpec) -> bool:
    match tensor.shape:
        case [-1, height, width, channels] if tensor.dtype == "uint8" and channels == CHANNELS:
            return all(MIN_SIDE <= side <= MAX_SIDE for side in (height, width))
    return False


class Parameters(Record):
    """Number of weights of the model."""

    total: Count
    trainable: Count


class ClassResult(Record):
    """Results for one class; the precision is 0 if the class was never predicted."""

    label: str
    n: Count
    precision: Probability
    recall: Probability
    f1: Probability


class Evaluation(Record):
    """Results of the artifact, loaded by one runtime at one precision, for one split."""

    split: SplitName
    n: Annotated[int, Field(ge=1, description="images evaluated")]
    runtime: RuntimeName
    runtime_version: str
    device: str
    precision: Precision
    loss: Annotated[float, Field(ge=0, description="mean cross-entropy in nats, from the probabilities")]
    accuracy: Probability
    correct: Count
    top_k_accuracy: Annotated[dict[str, Probability], Field(description="k -> share with the label among the top k")]
    expected_calibration_error: Annotated[
        Probability, Field(description="15 equal-width bins of confidence, weighted by their counts")
    ]
    confusion_matrix: Annotated[
        list[list[Count]] | None,
        FailFast(),
        Field(description="row = true class, column = predicted class; null for more than 100 classes"),
    ]
    per_class: Annotated[list[ClassResult], FailFast(), Field(description="in the order of the labels")]
    duration_s: Seconds


class EpochResult(Record):
    """One epoch of training, as Keras reported it; the loss of a run that diverged is "NaN" or "Infinity"."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    epoch: Annotated[int, Field(ge=1)]
    loss: float
    accuracy: Probability
    val_loss: Annotated[float | None, Field(description="null if all images are used for training")] = None
    val_accuracy: Probability | None = None
    duration_s: Seconds


class Dataset(Record):
    """The images for training and evaluation."""

    name: str
    source: Annotated[str, Field(description="which official form the images were read from")]
    sha256: Annotated[Sha256, Field(description="over all records (label, then red, green, blue planes) in order")]
    train: Count
    validation: Count
    test: Count
    split: Annotated[str, Field(description="how training and validation images were separated")]


class TrainingRun(Record):
    """The training run that produced the weights."""

    seed: int
    started_at: datetime
    wall_time_s: Seconds
    hardware: Annotated[str, Field(description="used for the last epoch; GPUs before the processor")]
    git_commit: Annotated[str, Field(description="of this project; '-dirty' if files were changed since")]
    command: Annotated[str, Field(description="repeats the run")]
    versions: Annotated[dict[str, str], Field(description="package -> version, of the process that trained")]
    backbone_sha256: Annotated[
        Sha256 | None, Field(description="SHA-256 over the weights that a transfer model's backbone began with")
    ] = None
    history: Annotated[list[EpochResult], FailFast()]


class Golden(Record):
    """Images with this version's own answers, checked at every load before the version may serve."""

    file: GoldenFile
    n: Annotated[int, Field(ge=1)]
    tolerance: Annotated[
        dict[Precision, Annotated[float, Field(gt=0, allow_inf_nan=False)]],
        Field(description="greatest absolute difference of a probability that still passes, per precision"),
    ]


class ExportReport(Record):
    """Measurements of the artifact on the machine that published it."""

    size_bytes: Annotated[Count, Field(description="saved_model.pb")]
    max_abs_difference_from_keras: Annotated[
        float, Field(ge=0, description="greatest difference of a probability over the test set")
    ]
    classes_changed_from_keras: Annotated[
        int, Field(ge=0, description="test images that the artifact puts into another class than the Keras model")
    ]
    load_time_s: Annotated[
        dict[str, Seconds],
        Field(description="runtime -> reading the folder and compiling, without importing the runtime"),
    ]


class FileRecord(Record):
    """A file of the version."""

    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=0, le=MAX_FILE_BYTES)]


class ModelMetadata(Record):
    """The metadata of one published version (`metadata.json`)."""

    schema_version: Literal[1] = 1
    name: ModelName
    version: Version
    title: Annotated[str, Field(max_length=MAX_TITLE)]
    architecture: Annotated[str, Field(max_length=MAX_TITLE)]
    recipe: Annotated[dict[str, Any], Field(description="every hyper-parameter; `name` says which recipe it is")]
    parameters: Parameters
    signatures: Annotated[list[SignatureSpec], Field(max_length=MAX_SIGNATURES), AfterValidator(_with_images)]
    labels: Labels
    evaluations: Annotated[list[Evaluation], FailFast()]
    training: TrainingRun
    dataset: Dataset
    golden: Golden
    export: ExportReport
    plots: Annotated[dict[PlotName, PlotFile], Field(description="plot name -> file in the version's folder")]
    project_version: str
    published_at: datetime
    files: Annotated[dict[FileName, FileRecord], Field(description="every file of the version except metadata.json")]

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        """Check that everything that lists classes matches `labels`."""
        count = self.class_count
        outputs = [(spec.name, spec.dtype, spec.shape) for spec in self.serving_signature.outputs]
        if (PROBABILITIES, "float32", [-1, count]) not in outputs:
            raise ValueError(
                f"signatures: '{SIGNATURE}' should have the output '{PROBABILITIES}' of the type float32 and the shape "
                f"[-1, {count}], for as many labels"
            )
        for index, evaluation in enumerate(self.evaluations):
            if [entry.label for entry in evaluation.per_class] != self.labels:
                raise ValueError(f"evaluations.{index}.per_class should have an entry for each label, in their order")
            matrix = evaluation.confusion_matrix
            if matrix is not None and (len(matrix) != count or any(len(row) != count for row in matrix)):
                raise ValueError(f"evaluations.{index}.confusion_matrix should have {count} rows of {count} counts")
        return self

    @property
    def class_count(self) -> int:
        """Number of classes."""
        return len(self.labels)

    @property
    def serving_signature(self) -> SignatureSpec:
        """The signature that maps pixels to probabilities."""
        answering = _answering(self.signatures)
        if answering is None:
            raise AssertionError("checked when the metadata was read")
        return answering

    @property
    def input_shape(self) -> InputShape:
        """Height, width and channels of the images that the version takes."""
        _, height, width, channels = self.serving_signature.inputs[0].shape
        return height, width, channels

    def evaluation(self, split: SplitName, precision: Precision, runtime: RuntimeName) -> Evaluation | None:
        """Return the evaluation for a split at a precision, preferably by this runtime."""
        matching = [entry for entry in self.evaluations if (entry.split, entry.precision) == (split, precision)]
        return min(matching, key=lambda entry: entry.runtime != runtime, default=None)
