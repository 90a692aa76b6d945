"""Publish an artifact as a version: write it, measure the stored files, and rename the folder into place.

The order matters: the files are written first, then each runtime loads them as the service would, and only its answers
go into the metadata. `training.export` publishes a trained model this way.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from cifar10_serving import __version__
from cifar10_serving.artifacts.layout import (
    GOLDEN_FILE,
    PLOTS_FOLDER,
    WARM_UP_FILE,
    publish,
    staging_folder,
)
from cifar10_serving.artifacts.metadata import (
    IR_FILE,
    IR_WEIGHTS_FILE,
    SAVED_MODEL_FILE,
    Evaluation,
    ExportReport,
    Golden,
    ImportRecord,
    InputShape,
    ModelMetadata,
    Parameters,
    Precision,
    SignatureSpec,
    SplitName,
    TrainingRun,
)
from cifar10_serving.artifacts.metadata import Dataset as DatasetRecord
from cifar10_serving.errors import PublishError
from cifar10_serving.runtimes.base import LoadedModel, Probabilities, Runtime
from cifar10_serving.runtimes.golden import MAX_ARRAY_BYTES, GoldenAnswers
from cifar10_serving.runtimes.openvino import OpenVinoRuntime, has_bfloat16
from cifar10_serving.runtimes.tensorflow import TensorFlowRuntime
from training.data.dataset import Split
from training.errors import ExportError
from training.evaluate import evaluate, predict_all
from training.plots import write_plots
from training.saved_model import WARM_UP_BATCHES, write_warm_up_requests

GOLDEN_IMAGES: Final = 64
FLOAT32_TOLERANCE: Final = 1e-3
"""Runtimes and processors differ by about 1e-6 in float32; a wrong weight or scaling causes 1e-1 or more."""
REDUCED_PRECISION_MARGIN: Final = 3.0
"""A reduced precision's tolerance is this many times the largest difference over the test set."""
LARGEST_EXPORT_DIFFERENCE: Final = 5e-2
"""Storing weights as float16 moves a probability near a tie by about 1e-3; beyond this limit the model is wrong."""


@dataclass(frozen=True)
class Described:
    """The metadata of a version, without what publishing measures and decides; `training` or `imported` is set."""

    name: str
    title: str
    architecture: str
    recipe: dict[str, Any]
    parameters: Parameters
    signatures: list[SignatureSpec]
    labels: Sequence[str]
    training: TrainingRun | None
    dataset: DatasetRecord | None
    imported: ImportRecord | None = None


@dataclass(frozen=True)
class _Measured:
    """One runtime's answers with the artifact for the checked images, and its load time."""

    runtime: Runtime
    evaluations: list[Evaluation]
    probabilities: Probabilities
    model: LoadedModel
    load_time_s: float


def publish_version(
    models: Path,
    described: Described,
    *,
    write: Callable[[Path], None],
    answers: Callable[[Split], Probabilities],
    golden: Split,
    splits: Mapping[SplitName, Split],
    runtimes: Sequence[Runtime] | None = None,
) -> ModelMetadata:
    """Publish an artifact as the next version of its name below `models`.

    The stored files are compared with the original model on the test split, or on the golden images without one.

    Args:
        models: the folder of the published versions.
        described: the metadata that is known before.
        write: writes the files that the runtimes load (`training.saved_model.write_graph`) into the folder that it
            gets.
        answers: returns the original model's probabilities (n, classes) for the images of a split.
        golden: the first images of this split become the golden images.
        splits: the splits to evaluate; may be empty.
        runtimes: those that can load the artifact, the reference first; None for `all_runtimes`.

    Raises:
        ExportError: the artifact's answers differ from the original model's.
        PublishError: the folder can't be written to; nothing is left behind.
    """
    with staging_folder(models, described.name) as staging, _write_errors(staging):
        write(staging)
        network = [file for name in (SAVED_MODEL_FILE, IR_FILE, IR_WEIGHTS_FILE) if (file := staging / name).exists()]
        if (staging / SAVED_MODEL_FILE).exists():  # only TensorFlow Serving reads the requests
            write_warm_up_requests(golden.images[: max(WARM_UP_BATCHES)], described.name, staging / WARM_UP_FILE)
        checked = splits.get("test", golden)
        measured = [
            _measure(runtime, staging, splits, checked, described.labels) for runtime in runtimes or all_runtimes()
        ]
        reference, *others = measured
        n = min(len(golden), golden_images(golden.input_shape))
        GoldenAnswers(golden.images[:n], golden.labels[:n], reference.model.predict(golden.images[:n])).save(
            staging / GOLDEN_FILE
        )
        plots = write_plots(
            staging / PLOTS_FOLDER,
            title=described.title,
            history=described.training.history if described.training is not None else [],
            test=next((entry for entry in reference.evaluations if entry.split == "test"), None),
            split=checked,
            probabilities=reference.probabilities,
        )
        original = answers(checked)
        report = ExportReport(
            size_bytes=sum(file.stat().st_size for file in network),
            max_abs_difference_from_keras=_difference(reference.probabilities, original),
            classes_changed_from_keras=_classes_changed(reference.probabilities, original),
            load_time_s={runtime_label(entry.runtime): entry.load_time_s for entry in measured},
        )
        _check_export(report)
        metadata = ModelMetadata(
            name=described.name,
            version=1,  # `publish` sets the real one
            title=described.title,
            architecture=described.architecture,
            recipe=described.recipe,
            parameters=described.parameters,
            signatures=described.signatures,
            labels=list(described.labels),
            evaluations=[evaluation for entry in measured for evaluation in entry.evaluations],
            training=described.training,
            imported=described.imported,
            dataset=described.dataset,
            golden=Golden(file=GOLDEN_FILE, n=n, tolerance=_tolerances(reference, others)),
            export=report,
            plots={plot: f"{PLOTS_FOLDER}/{plot}.svg" for plot in plots},
            project_version=__version__,
            published_at=datetime.now(UTC),
            files={},
        )
        return publish(staging, metadata, models)


def all_runtimes() -> list[Runtime]:
    """Return each runtime and precision of this machine, TensorFlow in float32 first."""
    return [TensorFlowRuntime(), *(OpenVinoRuntime(precision) for precision in openvino_precisions())]


def openvino_precisions() -> list[Precision]:
    """Return the precisions that OpenVINO supports on this CPU."""
    return ["float32", "bfloat16"] if has_bfloat16() else ["float32"]


def golden_images(shape: InputShape) -> int:
    """Return the largest number of golden images of this height, width and channels."""
    height, width, channels = shape
    return max(1, min(GOLDEN_IMAGES, MAX_ARRAY_BYTES // (height * width * channels)))


def reduced_precision_tolerance(difference: float) -> float:
    """Return the golden check's tolerance for a precision that differs by up to `difference` over the test set."""
    return max(FLOAT32_TOLERANCE, REDUCED_PRECISION_MARGIN * difference)


def runtime_label(runtime: Runtime) -> str:
    """Return the key of a runtime and precision in `ExportReport.load_time_s`."""
    return f"{runtime.name} {runtime.precision}"


def _measure(
    runtime: Runtime, folder: Path, splits: Mapping[SplitName, Split], checked: Split, labels: Sequence[str]
) -> _Measured:
    start_s = time.monotonic()
    model = runtime.load(folder)
    load_time_s = time.monotonic() - start_s
    model.predict(checked.images[:1])
    evaluated = {name: evaluate(runtime, model, split, name, labels) for name, split in splits.items() if len(split)}
    probabilities = evaluated["test"][1] if "test" in evaluated else predict_all(model, checked)
    return _Measured(runtime, [entry for entry, _ in evaluated.values()], probabilities, model, load_time_s)


def _difference(answers: Probabilities, reference: Probabilities) -> float:
    return float(np.abs(answers - reference).max())


def _classes_changed(answers: Probabilities, reference: Probabilities) -> int:
    return int((answers.argmax(axis=1) != reference.argmax(axis=1)).sum())


def _check_export(report: ExportReport) -> None:
    difference = report.max_abs_difference_from_keras
    if not difference <= LARGEST_EXPORT_DIFFERENCE:
        raise ExportError(
            f"the artifact's probabilities differ from the original model's by up to {difference:.3g}",
            expected=f"at most {LARGEST_EXPORT_DIFFERENCE}",
            remedy="the export changed the model; please report this with the recipe and package versions",
        )


def _tolerances(reference: _Measured, others: list[_Measured]) -> dict[Precision, float]:
    tolerances: dict[Precision, float] = {reference.runtime.precision: FLOAT32_TOLERANCE}
    for measured in others:
        precision = measured.runtime.precision
        difference = _difference(measured.probabilities, reference.probabilities)
        if precision == "float32" and difference > FLOAT32_TOLERANCE:
            raise ExportError(
                f"{runtime_label(measured.runtime)} and {runtime_label(reference.runtime)} differ by up to "
                f"{difference:.3g}",
                expected=f"at most {FLOAT32_TOLERANCE}",
            )
        if precision != "float32":
            tolerances[precision] = reduced_precision_tolerance(difference)
    return tolerances


@contextmanager
def _write_errors(staging: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PublishError(
            f"can't write the artifact to {staging.parent}: {error.strerror or error}",
            expected="a writable folder with enough free space",
            remedy="free up space, or choose another folder with --models",
        ) from None
