"""Publish an opened model: find out how it works, measure it on test pictures, and write the version."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.layout import file_record
from cifar10_serving.artifacts.metadata import CHANNELS, ImportRecord, ModelMetadata, SourceOutputs
from cifar10_serving.artifacts.metadata import Dataset as DatasetRecord
from cifar10_serving.runtimes.base import Probabilities
from training.data.dataset import Dimensions, Split
from training.errors import ModelImportError
from training.importing.outputs import Asked, kind_of_outputs
from training.importing.pictures import unlabelled_pictures
from training.importing.scalings import (
    NAMES,
    TRIAL_SEED,
    Trials,
    all_outputs,
    describe_trials,
    measure_scalings,
    trial_rows,
)
from training.importing.source import Source
from training.importing.sources import source_sha256
from training.importing.wrapping import Wrapping, probabilities_of
from training.preprocessing import SCALINGS
from training.provenance import git_commit, package_versions
from training.published import newest_labels
from training.publishing import Described, publish_version
from training.recipes.recipe import InputScaling
from training.saved_model import signatures

RECIPE: Final = "imported"
MIN_TEST_IMAGES: Final = 2
CHANCE_FACTOR: Final = 1.5
"""A model that is right less often than this many times chance was probably not understood."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class TestPictures:
    """Labelled pictures of the model's input size: labels are places in the model's list of labels."""

    split: Split
    name: str
    source: str
    sha256: str

    __test__ = False  # pytest collects classes named Test…


@dataclass(frozen=True)
class ImportOptions:
    """Everything that the user says about a model; None for what is to be found out."""

    name: str
    title: str
    labels: list[str]
    command: str
    scaling: InputScaling | None = None
    outputs: Asked | None = None
    custom_objects: Path | None = None


@dataclass(frozen=True)
class _Findings:
    """The findings about a model, from its answers and the options."""

    outputs: SourceOutputs
    scaling: InputScaling
    scaling_by: Literal["option", "measurement", "source"]
    trials: Trials | None = None
    trial_rows: NDArray[np.int64] | None = None


def import_model(
    source: Source, path: Path, options: ImportOptions, models: Path, *, pictures: TestPictures | None, tell: Tell
) -> ModelMetadata:
    """Publish an opened model as the next version of its name below `models`.

    Args:
        source: the model.
        path: the file or folder that it was opened from.
        options: what the user says about it.
        models: the folder of the published versions.
        pictures: the test pictures; None for a version that was never measured.
        tell: receives lines about what was found.

    Raises:
        ModelImportError: the model or its labels can't be served, or its answers are not understood.
        ExportError: the artifact answers differently from the model.
        PublishError: the folder can't be written to; nothing is left behind.
    """
    check_name_is_free(models, options.name, options.labels)
    unlabelled = unlabelled_pictures(source.input.size)
    findings = _find_out(source, options, unlabelled, pictures, tell)
    test, dataset = _to_measure(pictures, findings)
    wrapping = Wrapping(findings.scaling, findings.outputs, (*source.input.size, CHANNELS), len(options.labels))

    def answers(split: Split) -> Probabilities:
        values = all_outputs(source.outputs, split, findings.scaling)
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values).all(axis=1)).sum())
            raise ModelImportError(
                f"its answers to {bad:,} of {len(values):,} pictures are NaN or infinite, with pixels scaled as "
                f"{findings.scaling}",
                expected="finite numbers",
                remedy="pass another --scaling, or import another checkpoint",
            )
        return probabilities_of(values, findings.outputs)

    golden = test if test is not None else unlabelled
    original = answers(golden)  # reports NaN before anything is written
    dimensions = Dimensions(wrapping.input_shape, wrapping.class_count)
    described = Described(
        name=options.name,
        title=options.title,
        architecture=source.architecture,
        recipe={"name": RECIPE},
        parameters=source.parameters,
        signatures=signatures(dimensions)[: 1 if source.kind == "onnx" else None],
        labels=options.labels,
        training=None,
        imported=_record(source, path, options, findings),
        dataset=dataset,
    )
    return publish_version(
        models,
        described,
        write=source.writer(wrapping),
        answers=lambda split: original if split is golden else answers(split),
        golden=golden,
        splits={"test": test} if test is not None else {},
        runtimes=source.runtimes(),
    )


def check_name_is_free(models: Path, name: str, labels: list[str]) -> None:
    """Check that published versions of this name, if there are any, have these labels.

    Raises:
        ModelImportError: they have others.
    """
    newest = newest_labels(models, name)
    if newest is not None and newest[1] != labels:
        raise ModelImportError(
            f"{models / name} has versions with other labels, such as '{newest[1][0]}'",
            expected="the same labels in all versions of a name",
            remedy="choose another --name",
        )


def _find_out(
    source: Source, options: ImportOptions, unlabelled: Split, pictures: TestPictures | None, tell: Tell
) -> _Findings:
    scalings: list[InputScaling] = ["unscaled"] if source.input.scales_itself else list(SCALINGS)
    if source.input.scales_itself and options.scaling not in (None, "unscaled"):
        raise ModelImportError(
            f"--scaling {options.scaling} with a model that takes whole numbers from 0 to 255",
            remedy="leave --scaling away",
        )
    if options.scaling is not None:
        scalings = [options.scaling]
    elif pictures is None and source.scales_itself:
        scalings = ["unscaled"]
    elif pictures is None:
        raise ModelImportError(
            "the scaling of its pixels can't be found out without test pictures",
            expected=f"--data FOLDER with test pictures, or --scaling with one of {', '.join(SCALINGS)}",
            remedy="look up how the pixels were scaled when the model was trained",
        )
    probes = {scaling: all_outputs(source.outputs, unlabelled, scaling) for scaling in scalings}
    outputs = kind_of_outputs(np.concatenate(list(probes.values())), options.outputs)
    by = "as --logits or --probabilities says" if options.outputs else "measured"
    tell(f"outputs: {outputs.replace('_', ' ')} ({by})")
    if options.scaling is not None or source.input.scales_itself:
        tell(f"scaling: {scalings[0]} ({NAMES[scalings[0]]})")
        return _Findings(outputs, scalings[0], "option" if options.scaling is not None else "source")
    if pictures is not None:
        return _measured(source, outputs, pictures, tell)
    tell(f"scaling: unscaled ({NAMES['unscaled']}), as the model has a layer that scales pixels")
    return _Findings(outputs, "unscaled", "source")


def _measured(source: Source, outputs: SourceOutputs, pictures: TestPictures, tell: Tell) -> _Findings:
    split = pictures.split
    if len(split) < MIN_TEST_IMAGES:
        raise ModelImportError(
            f"{len(split)} test pictures",
            expected=f"at least {MIN_TEST_IMAGES}: some to find the scaling, the others to measure the accuracy",
        )
    rows, _ = trial_rows(split.labels)
    trial = split.take(rows)
    answers = {scaling: all_outputs(source.outputs, trial, scaling) for scaling in SCALINGS}
    trials = measure_scalings(answers, trial, outputs)
    tell(f"accuracy on {len(trial):,} of {len(split):,} test pictures by scaling of pixels:")
    tell(describe_trials(trials))
    tell(f"scaling: {trials.best} ({NAMES[trials.best]}), the best of these; the accuracy is measured on the others")
    equal = [scaling for scaling in trials.equally_good if scaling != trials.best]
    if equal:
        tell(f"warning: as many right answers with {', '.join(equal)}: pass --scaling if you know it")
    most = max(entry.correct or 0 for entry in trials.table)
    if most / len(trial) < CHANCE_FACTOR / (2 if source.output_count == 1 else source.output_count):
        tell(
            "warning: it is hardly better than chance with any scaling: are the labels in the order of the outputs, "
            "and are these pictures of its classes?"
        )
    return _Findings(outputs, trials.best, "measurement", trials, rows)


def _to_measure(pictures: TestPictures | None, findings: _Findings) -> tuple[Split | None, DatasetRecord | None]:
    """Return the pictures that decided nothing, and their description."""
    if pictures is None:
        return None, None
    test, used = pictures.split, 0
    if findings.trial_rows is not None:
        rest = np.setdiff1d(np.arange(len(test)), findings.trial_rows)
        test, used = test.take(rest), len(findings.trial_rows)
    split = f"; {used:,} others chose the scaling (seed {TRIAL_SEED})" if used else ""
    return test, DatasetRecord(
        name=pictures.name,
        source=pictures.source,
        sha256=pictures.sha256,
        train=0,
        validation=used,
        test=len(test),
        split=f"{len(test):,} test pictures{split}",
    )


def _record(source: Source, path: Path, options: ImportOptions, findings: _Findings) -> ImportRecord:
    sha256, size_bytes = source_sha256(path)
    trials, rows = findings.trials, findings.trial_rows
    return ImportRecord(
        source=source.kind,
        file_name=path.resolve().name,
        sha256=sha256,
        size_bytes=size_bytes,
        layout=source.input.layout,
        outputs=findings.outputs,
        outputs_by="option" if options.outputs is not None else "measurement",
        scaling=findings.scaling,
        scaling_by=findings.scaling_by,
        scalings=trials.table if trials is not None else [],
        scalings_measured_on=f"{len(rows):,} of the test pictures, drawn in the proportions of the classes with seed "
        f"{TRIAL_SEED}"
        if rows is not None
        else None,
        custom_objects_sha256=file_record(options.custom_objects).sha256 if options.custom_objects else None,
        imported_at=datetime.now(UTC),
        git_commit=git_commit(),
        command=options.command,
        versions=package_versions("h5py"),
    )
