"""Publish a trained model as a version: write the artifact, measure the artifact itself, rename it into place.

The order matters: the files are written first, then each runtime loads them as the service would, and only its
answers for the test set go into the metadata.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

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
    SAVED_MODEL_FILE,
    Dataset,
    Evaluation,
    ExportReport,
    Golden,
    ModelMetadata,
    Precision,
    TrainingRun,
)
from cifar10_serving.errors import PublishError
from cifar10_serving.runtimes.base import LoadedModel, Probabilities, Runtime
from cifar10_serving.runtimes.golden import GoldenAnswers
from cifar10_serving.runtimes.openvino import OpenVinoRuntime, has_bfloat16
from cifar10_serving.runtimes.tensorflow import TensorFlowRuntime
from training.cifar10 import CLASS_NAMES, DATASET_NAME, identity
from training.data import Cifar10, Split
from training.errors import ExportError
from training.evaluate import evaluate
from training.fit import TrainedModel, answers_of
from training.plots import PLOT_NAMES, write_plots
from training.provenance import git_commit, package_versions
from training.recipes import Recipe
from training.saved_model import SIGNATURES, WARM_UP_BATCHES, write_saved_model, write_warm_up_requests
from training.temperature import at_temperature

GOLDEN_IMAGES: Final = 64
FLOAT32_TOLERANCE: Final = 1e-3
"""Runtimes and processors differ by about 1e-6 in float32; a wrong weight or scaling causes 1e-1 or more."""
REDUCED_PRECISION_MARGIN: Final = 3.0
"""A reduced precision's tolerance is this many times the largest difference over the test set."""
LARGEST_EXPORT_DIFFERENCE: Final = 5e-2
"""Storing weights as float16 moves a probability near a tie by about 1e-3; beyond this limit the model is wrong."""


@dataclass(frozen=True)
class _Measured:
    """One runtime's answers with the artifact, and its load time."""

    evaluations: list[Evaluation]
    test_probabilities: Probabilities
    model: LoadedModel
    load_time_s: float


def export(trained: TrainedModel, data: Cifar10, models: Path, *, command: str) -> ModelMetadata:
    """Publish a trained model as the next version of its name below `models`.

    Args:
        data: the artifact is evaluated on its test split.
        command: repeats the run; stored in the metadata.

    Raises:
        ExportError: the artifact's answers differ from the Keras model's.
        PublishError: the folder can't be written to; nothing is left behind.
    """
    name = trained.recipe.model
    with staging_folder(models, name) as staging, _write_errors(staging):
        write_saved_model(trained.model, trained.recipe.input_scaling, staging, temperature=trained.recipe.temperature)
        write_warm_up_requests(data.test.images[: max(WARM_UP_BATCHES)], name, staging / WARM_UP_FILE)
        reference = _measure(TensorFlowRuntime(), staging, trained, data.test)
        others = [
            _measure(OpenVinoRuntime(precision), staging, trained, data.test) for precision in openvino_precisions()
        ]
        golden = GoldenAnswers(
            data.test.images[:GOLDEN_IMAGES],
            data.test.labels[:GOLDEN_IMAGES],
            reference.model.predict(data.test.images[:GOLDEN_IMAGES]),
        )
        golden.save(staging / GOLDEN_FILE)
        write_plots(
            staging / PLOTS_FOLDER,
            title=identity(name).title,
            history=trained.history,
            test=reference.evaluations[0],
            split=data.test,
            probabilities=reference.test_probabilities,
        )
        keras_probabilities = at_temperature(answers_of(trained, data.test), trained.recipe.temperature)
        report = ExportReport(
            size_bytes=(staging / SAVED_MODEL_FILE).stat().st_size,
            max_abs_difference_from_keras=_difference(reference.test_probabilities, keras_probabilities),
            classes_changed_from_keras=_classes_changed(reference.test_probabilities, keras_probabilities),
            load_time_s={
                evaluation_label(measured.evaluations[0]): measured.load_time_s for measured in [reference, *others]
            },
        )
        _check_export(report)
        return publish(
            staging,
            _metadata(trained=trained, data=data, reference=reference, others=others, report=report, command=command),
            models,
        )


def _metadata(
    *,
    trained: TrainedModel,
    data: Cifar10,
    reference: _Measured,
    others: list[_Measured],
    report: ExportReport,
    command: str,
) -> ModelMetadata:
    recipe = trained.recipe
    model = identity(recipe.model)
    return ModelMetadata(
        name=recipe.model,
        version=1,  # `publish` sets the real one
        title=model.title,
        architecture=model.architecture,
        recipe=recipe.published(),
        parameters=trained.parameters,
        signatures=SIGNATURES,
        labels=list(CLASS_NAMES),
        evaluations=[evaluation for measured in [reference, *others] for evaluation in measured.evaluations],
        training=TrainingRun(
            seed=recipe.seed,
            started_at=trained.started_at,
            wall_time_s=trained.wall_time_s,
            hardware=trained.environment.hardware,
            git_commit=git_commit(),
            command=command,
            versions=package_versions() | trained.environment.versions,
            backbone_sha256=trained.backbone_sha256,
            history=trained.history,
        ),
        dataset=Dataset(
            name=DATASET_NAME,
            source=data.source,
            sha256=data.sha256,
            train=trained.train_n,
            validation=len(trained.validation),
            test=len(data.test),
            split=_split(recipe),
        ),
        golden=Golden(file=GOLDEN_FILE, n=GOLDEN_IMAGES, tolerance=_tolerances(reference, others)),
        export=report,
        plots={plot: f"{PLOTS_FOLDER}/{plot}.svg" for plot in PLOT_NAMES},
        project_version=__version__,
        published_at=datetime.now(UTC),
        files={},
    )


def _split(recipe: Recipe) -> str:
    if recipe.validation_fraction == 0:
        return "none: every training image trains"
    return (
        f"sklearn.model_selection.train_test_split(test_size={recipe.validation_fraction}, "
        f"random_state={recipe.split_seed})"
    )


def _measure(runtime: Runtime, folder: Path, trained: TrainedModel, test: Split) -> _Measured:
    start_s = time.monotonic()
    model = runtime.load(folder)
    load_time_s = time.monotonic() - start_s
    model.predict(test.images[:1])
    test_evaluation, probabilities = evaluate(runtime, model, test, "test", CLASS_NAMES)
    evaluations = [test_evaluation]
    if len(trained.validation):
        evaluations.append(evaluate(runtime, model, trained.validation, "validation", CLASS_NAMES)[0])
    return _Measured(evaluations, probabilities, model, load_time_s)


def openvino_precisions() -> list[Precision]:
    """Return the precisions that OpenVINO supports on this CPU."""
    return ["float32", "bfloat16"] if has_bfloat16() else ["float32"]


def _difference(answers: Probabilities, reference: Probabilities) -> float:
    return float(np.abs(answers - reference).max())


def _classes_changed(answers: Probabilities, reference: Probabilities) -> int:
    return int((answers.argmax(axis=1) != reference.argmax(axis=1)).sum())


def _check_export(report: ExportReport) -> None:
    difference = report.max_abs_difference_from_keras
    if not difference <= LARGEST_EXPORT_DIFFERENCE:
        raise ExportError(
            f"the artifact's probabilities differ from the Keras model's by up to {difference:.3g}",
            expected=f"at most {LARGEST_EXPORT_DIFFERENCE}",
            remedy="the export changed the model; please report this with the recipe and package versions",
        )


def _tolerances(reference: _Measured, others: list[_Measured]) -> dict[Precision, float]:
    tolerances: dict[Precision, float] = {"float32": FLOAT32_TOLERANCE}
    for measured in others:
        precision = measured.evaluations[0].precision
        difference = _difference(measured.test_probabilities, reference.test_probabilities)
        if precision == "float32" and difference > FLOAT32_TOLERANCE:
            raise ExportError(
                f"{evaluation_label(measured.evaluations[0])} and TensorFlow differ by up to {difference:.3g}",
                expected=f"at most {FLOAT32_TOLERANCE}",
            )
        if precision != "float32":
            tolerances[precision] = reduced_precision_tolerance(difference)
    return tolerances


def reduced_precision_tolerance(difference: float) -> float:
    """Return the golden check's tolerance for a precision that differs by up to `difference` over the test set."""
    return max(FLOAT32_TOLERANCE, REDUCED_PRECISION_MARGIN * difference)


def evaluation_label(evaluation: Evaluation) -> str:
    """Return the key of a runtime and precision in `ExportReport.load_time_s`."""
    return f"{evaluation.runtime} {evaluation.precision}"


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
