"""Evaluate a published version in precisions that its metadata lacks, and add them to the metadata.

For a version that was published on a CPU without bfloat16. Its answers don't change.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cifar10_serving.artifacts.files import write_published
from cifar10_serving.artifacts.layout import METADATA_FILE, metadata_document
from cifar10_serving.artifacts.metadata import Evaluation, Golden, ModelMetadata, Precision, SplitName
from cifar10_serving.runtimes.base import LoadedModel, Probabilities
from cifar10_serving.runtimes.golden import check_golden
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from training.data import Dataset
from training.evaluate import evaluate
from training.publishing import openvino_precisions, reduced_precision_tolerance, runtime_label
from training.remeasure import read_to_measure, stored_splits


@dataclass(frozen=True)
class MeasuredPrecision:
    """A stored version in one precision of OpenVINO: the loaded model, its evaluations, and its load time.

    `answers` has the probabilities (n, classes) of each evaluated split.
    """

    model: LoadedModel
    label: str
    evaluations: list[Evaluation]
    answers: dict[SplitName, Probabilities]
    load_time_s: float

    def added_to(self, metadata: ModelMetadata, golden: Golden) -> ModelMetadata:
        """Return the metadata with these evaluations and this load time, and with this golden check."""
        load_times_s = metadata.export.load_time_s | {self.label: self.load_time_s}
        return metadata.model_copy(
            update={
                "evaluations": [*metadata.evaluations, *self.evaluations],
                "golden": golden,
                "export": metadata.export.model_copy(update={"load_time_s": load_times_s}),
            }
        )


def measure_precision(folder: Path, metadata: ModelMetadata, data: Dataset, precision: Precision) -> MeasuredPrecision:
    """Load a version with OpenVINO, and evaluate it on every split that has a float32 evaluation by OpenVINO.

    Raises:
        ModelLoadError: it can't be loaded.
    """
    runtime = OpenVinoRuntime(precision)
    start_s = time.monotonic()
    model = runtime.load(folder)
    load_time_s = time.monotonic() - start_s
    splits = stored_splits(metadata, data)
    names = [
        entry.split
        for entry in metadata.evaluations
        if (entry.runtime, entry.precision) == (runtime.name, "float32") and entry.split in splits
    ]
    measured = {name: evaluate(runtime, model, splits[name], name, metadata.labels) for name in names}
    return MeasuredPrecision(
        model,
        runtime_label(runtime),
        [evaluation for evaluation, _ in measured.values()],
        {name: answers for name, (_, answers) in measured.items()},
        load_time_s,
    )


def add_precisions(folder: Path, data: Dataset) -> list[Evaluation]:
    """Evaluate the missing precisions that this machine supports, add them to the metadata, and return them.

    Every split with a float32 evaluation is evaluated. The golden check's tolerance comes from the whole test set, as
    at publishing.

    Raises:
        ArtifactError: the version is incomplete or damaged.
        ModelLoadError: it can't be loaded, or fails its golden check.
        DatasetError: the version was evaluated on other data.
        PublishError: the metadata can't be written.
    """
    metadata = read_to_measure(folder, data)
    missing = [precision for precision in openvino_precisions() if precision not in metadata.golden.tolerance]
    if not missing:
        return []
    added: list[Evaluation] = []
    for precision in missing:
        metadata, evaluations = _with_precision(metadata, folder, data, precision)
        added += evaluations
    write_published(folder / METADATA_FILE, metadata_document(metadata))
    return added


def _with_precision(
    metadata: ModelMetadata, folder: Path, data: Dataset, precision: Precision
) -> tuple[ModelMetadata, list[Evaluation]]:
    full = OpenVinoRuntime()
    reference = full.load(folder)
    check_golden(reference, folder, metadata, full.precision)
    _, expected = evaluate(full, reference, data.test, "test", metadata.labels)

    measured = measure_precision(folder, metadata, data, precision)
    difference = float(np.abs(measured.answers["test"] - expected).max())
    tolerance = metadata.golden.tolerance | {precision: reduced_precision_tolerance(difference)}
    golden = metadata.golden.model_copy(update={"tolerance": tolerance})
    return measured.added_to(metadata, golden), measured.evaluations
