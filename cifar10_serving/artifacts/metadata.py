"""The schema of metadata.json: a version's contents, training run or import, and evaluations.

The service answers with the same JSON; API schema, documentation and client derive from these classes.
`cifar10_serving.artifacts.layout` reads and writes the files.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, model_validator

from cifar10_serving.errors import ArtifactError

Precision = Literal["float32", "bfloat16", "int8"]
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
MAX_MATRIX_CLASSES: Final = 100
"""metadata.json holds no confusion matrices of more classes; see `cifar10_serving.artifacts.confusions`."""
MIN_SIDE: Final = 8
MAX_SIDE: Final = 1024
"""Limits of an image's height and width in pixels."""
CHANNELS: Final = 3
MAX_SIGNATURES: Final = 16
MAX_TENSORS: Final = 16
MAX_DIMENSIONS: Final = 8
SAVED_MODEL_FILE: Final = "saved_model.pb"
"""The network for every runtime."""
IR_FILE: Final = "openvino/model.xml"
IR_WEIGHTS_FILE: Final = "openvino/model.bin"
"""The network in OpenVINO's own format (IR), for OpenVINO alone, in versions without a SavedModel."""

INT8_FILE: Final = "int8/model.xml"
INT8_WEIGHTS_FILE: Final = "int8/model.bin"
"""The network quantized to int8, for OpenVINO, in versions that `python -m training quantize` added it to."""

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
SourceKind = Literal["keras", "keras_h5", "saved_model", "onnx"]
SourceOutputs = Literal["probabilities", "logits", "binary_probability", "binary_logit"]
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
    """Number of weights of the model; an imported file that doesn't say which were trained counts all as trainable."""

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
        list[list[Count]],
        FailFast(),
        Field(description=f"row = true class, column = predicted class; empty above {MAX_MATRIX_CLASSES} classes"),
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


class ScalingTrial(Record):
    """The accuracy of an imported model if its pixels are scaled in one of the known ways."""

    scaling: Annotated[str, Field(max_length=64)]
    n: Annotated[int, Field(ge=1, description="images that it was measured on")]
    correct: Annotated[Count | None, Field(description="null if an answer is not a finite number")]
    loss: Annotated[float | None, Field(ge=0, description="mean cross-entropy in nats")] = None


class ImportRecord(Record):
    """The source of a version that was imported instead of trained here, and the findings about it."""

    source: Annotated[SourceKind, Field(description="format of the file or folder")]
    file_name: Annotated[str, Field(max_length=255, description="of the source, without its folder")]
    sha256: Annotated[
        Sha256, Field(description="of the file; of a folder: over each file's path and SHA-256, sorted by path")
    ]
    size_bytes: Count
    layout: Annotated[Literal["NHWC", "NCHW"], Field(description="of the source's input; the version takes NHWC")]
    outputs: Annotated[SourceOutputs, Field(description="of the source; binary: one number, for the second class")]
    outputs_by: Annotated[Literal["option", "measurement"], Field(description="how `outputs` was decided")]
    scaling: Annotated[str, Field(max_length=64, description="applied to the pixels in the graph")]
    scaling_by: Annotated[
        Literal["option", "measurement", "source"],
        Field(description="how `scaling` was decided; source: the model itself scales the pixels"),
    ]
    scalings: Annotated[
        list[ScalingTrial], Field(max_length=32, description="the measurement that decided; empty without one")
    ]
    scalings_measured_on: Annotated[
        str | None, Field(description="the images for `scalings`, which no evaluation uses; null without a measurement")
    ] = None
    custom_objects_sha256: Annotated[
        Sha256 | None, Field(description="of the Python file with its layers that was run for the import")
    ] = None
    imported_at: datetime
    git_commit: Annotated[str, Field(description="of this project; '-dirty' if files were changed since")]
    command: Annotated[str, Field(description="repeats the import")]
    versions: Annotated[dict[str, str], Field(description="package -> version, of the process that imported")]


class ClassCheck(Record):
    """The golden check of a precision in which single probabilities differ widely, but hardly a class."""

    margin: Annotated[
        float,
        Field(
            gt=0, allow_inf_nan=False, description="lead of a golden answer's class from which on it must not change"
        ),
    ]
    mean_difference: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="greatest mean over the golden images of an image's greatest difference of a probability",
        ),
    ]


class Golden(Record):
    """Images with this version's own answers, checked at every load before the version may serve."""

    file: GoldenFile
    n: Annotated[int, Field(ge=1)]
    tolerance: Annotated[
        dict[Precision, Annotated[float, Field(gt=0, allow_inf_nan=False)]],
        Field(description="greatest absolute difference of a probability that still passes, per precision"),
    ]
    classes: Annotated[
        dict[Precision, ClassCheck], Field(description="the check of each precision that has no tolerance")
    ] = {}

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions that can be checked."""
        return (*self.tolerance, *(precision for precision in self.classes if precision not in self.tolerance))


class ExportReport(Record):
    """Measurements of the artifact on the machine that published it."""

    size_bytes: Annotated[Count, Field(description="saved_model.pb, or the IR's two files")]
    max_abs_difference_from_keras: Annotated[
        float,
        Field(
            ge=0,
            description="greatest difference of a probability from the Keras model or the imported one, over the test "
            "set; over the golden images if there is none",
        ),
    ]
    classes_changed_from_keras: Annotated[
        int, Field(ge=0, description="images of these that the artifact puts into another class")
    ]
    load_time_s: Annotated[
        dict[str, Seconds],
        Field(description="runtime -> reading the folder and compiling, without importing the runtime"),
    ]


class QuantizationTrial(Record):
    """One way to quantize a version, compared with float32 on images that are not for testing."""

    bias_correction: Literal["fast", "full"]
    float32_layers: Annotated[list[str], Field(max_length=1_000, description="layers that were left in float32")]
    classes_changed: Count
    divergence: Annotated[
        float, Field(ge=0, description="mean Kullback-Leibler divergence in nats of its answers from float32's")
    ]
    correct: Count


class Quantization(Record):
    """The quantization of a version to int8: its method, images and trials."""

    method: Annotated[str, Field(max_length=64, description="package and version")]
    calibrated_on: Annotated[str, Field(max_length=200, description="the images for the ranges of activations")]
    compared_on: Annotated[str, Field(max_length=200, description="the images for `trials`, others than those")]
    n: Annotated[int, Field(ge=1, description="images that the trials were compared on")]
    float32_correct: Count
    trials: Annotated[list[QuantizationTrial], Field(min_length=1, max_length=32)]
    chosen: Annotated[int, Field(ge=0, description="place of the chosen trial")]
    seed: int
    quantized_at: datetime
    git_commit: Annotated[str, Field(description="of this project; '-dirty' if files were changed since")]
    command: Annotated[str, Field(description="repeats the quantization")]
    size_bytes: Annotated[Count, Field(description="of the network's two files")]


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
    evaluations: Annotated[list[Evaluation], FailFast(), Field(description="empty if it was never measured")]
    training: Annotated[TrainingRun | None, Field(description="null for an imported version")] = None
    imported: Annotated[ImportRecord | None, Field(description="null for a version that was trained here")] = None
    dataset: Annotated[
        Dataset | None,
        Field(description="null without evaluations; of an imported version: its test images, none for training"),
    ] = None
    golden: Golden
    quantization: Annotated[Quantization | None, Field(description="null for a version without int8")] = None
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
            if not matrix and count > MAX_MATRIX_CLASSES:
                continue
            if len(matrix) != count or any(len(row) != count for row in matrix):
                raise ValueError(f"evaluations.{index}.confusion_matrix should have {count} rows of {count} counts")
        return self

    @model_validator(mode="after")
    def _check_origin(self) -> Self:
        """Check that the version was either trained or imported, and that there is a data set for its evaluations."""
        if (self.training is None) == (self.imported is None):
            raise ValueError("should have either `training` or `imported`")
        if self.dataset is None and (self.training is not None or self.evaluations):
            raise ValueError("dataset: should be there for a trained version and for evaluations")
        return self

    @property
    def training_run(self) -> TrainingRun:
        """The run of a version that was trained here.

        Raises:
            ArtifactError: the version was imported.
        """
        if self.training is None:
            raise ArtifactError(
                f"{self.name} version {self.version} was imported", expected="a version that was trained here"
            )
        return self.training

    @property
    def measured_data(self) -> Dataset:
        """The data set of a version that was measured.

        Raises:
            ArtifactError: the version was never measured.
        """
        if self.dataset is None:
            raise ArtifactError(
                f"{self.name} version {self.version} was never measured", expected="a version with evaluations"
            )
        return self.dataset

    @property
    def network_file(self) -> str:
        """The file with the network, relative to the version's folder."""
        return IR_FILE if SAVED_MODEL_FILE not in self.files and IR_FILE in self.files else SAVED_MODEL_FILE

    @property
    def network_files(self) -> tuple[str, ...]:
        """All files that a runtime reads to load the network, in whatever precision."""
        files = (IR_FILE, IR_WEIGHTS_FILE) if self.network_file == IR_FILE else (SAVED_MODEL_FILE,)
        return (*files, INT8_FILE, INT8_WEIGHTS_FILE) if "int8" in self.golden.precisions else files

    @property
    def runtimes(self) -> tuple[RuntimeName, ...]:
        """The runtimes that can load the version."""
        return ("openvino",) if self.network_file == IR_FILE else ("openvino", "tensorflow")

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
