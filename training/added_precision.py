"""Measures a published version in the precisions that it was not yet measured in, and adds them to its metadata.

For a version that was published on a CPU without bfloat16: nothing that it answers changes, only what is known of it.
"""

import time
from pathlib import Path

import numpy as np

from cifar10_serving.artifacts.files import write_published
from cifar10_serving.artifacts.layout import METADATA_FILE
from cifar10_serving.artifacts.metadata import Evaluation, ModelMetadata, Precision
from cifar10_serving.runtimes.golden import check_golden
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from training.data import Cifar10
from training.evaluate import evaluate
from training.export import evaluation_label, openvino_precisions, reduced_precision_tolerance
from training.remeasure import read_to_measure, stored_splits


def add_precisions(folder: Path, data: Cifar10) -> list[Evaluation]:
    """Evaluate what this machine can and the metadata lacks, and write the metadata again; what was added.

    Every split that is stored in float32 is evaluated. The golden answers' tolerance comes from the whole test set, as
    at publishing.

    Raises:
        ArtifactError: the version is not whole.
        ModelLoadError: it can't be loaded, or its golden answers are wrong.
        DatasetError: the data is not what it was evaluated on.
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
    write_published(folder / METADATA_FILE, metadata.model_dump_json(indent=1))
    return added


def _with_precision(
    metadata: ModelMetadata, folder: Path, data: Cifar10, precision: Precision
) -> tuple[ModelMetadata, list[Evaluation]]:
    full = OpenVinoRuntime()
    reference = full.load(folder)
    check_golden(reference, folder, metadata, full.precision)
    _, expected = evaluate(full, reference, data.test, "test")

    runtime = OpenVinoRuntime(precision)
    start_s = time.monotonic()
    model = runtime.load(folder)
    load_time_s = time.monotonic() - start_s
    splits = stored_splits(metadata, data)
    names = [e.split for e in metadata.evaluations if (e.runtime, e.precision) == (full.name, full.precision)]
    measured = {name: evaluate(runtime, model, splits[name], name) for name in names}
    evaluations = [evaluation for evaluation, _ in measured.values()]
    difference = float(np.abs(measured["test"][1] - expected).max())
    tolerance = metadata.golden.tolerance | {precision: reduced_precision_tolerance(difference)}
    load_times_s = metadata.export.load_time_s | {evaluation_label(evaluations[0]): load_time_s}
    return (
        metadata.model_copy(
            update={
                "evaluations": [*metadata.evaluations, *evaluations],
                "golden": metadata.golden.model_copy(update={"tolerance": tolerance}),
                "export": metadata.export.model_copy(update={"load_time_s": load_times_s}),
            }
        ),
        evaluations,
    )
