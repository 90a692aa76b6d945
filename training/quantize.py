"""Add an int8 network to a published version: quantize its graph with NNCF, choose the best of a few ways, measure it.

Quantized is the graph that OpenVINO reads from the published files, so the weights are those that serve. Calibration
and choice use training or held-out images, never test images; the test images only measure the result. The version's
other files and answers don't change. https://docs.openvino.ai, "Post-training quantization".
"""

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import nncf
import numpy as np
import openvino
from numpy.typing import NDArray

from cifar10_serving.artifacts.files import write_published
from cifar10_serving.artifacts.layout import METADATA_FILE, STAGING_PREFIX, file_record, metadata_document
from cifar10_serving.artifacts.metadata import (
    INT8_FILE,
    INT8_WEIGHTS_FILE,
    SAVED_MODEL_FILE,
    ClassCheck,
    ModelMetadata,
    Quantization,
    QuantizationTrial,
)
from cifar10_serving.errors import PublishError
from cifar10_serving.runtimes.base import LoadedModel, Probabilities
from cifar10_serving.runtimes.golden import check_golden, lead, read_golden
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from cifar10_serving.runtimes.verification import GOLDEN_IMAGES
from training.added_precision import MeasuredPrecision, measure_precision
from training.data import Dataset, Split
from training.errors import DatasetError, QuantizationError
from training.evaluate import predict_all
from training.provenance import git_commit
from training.publishing import FLOAT32_TOLERANCE, REDUCED_PRECISION_MARGIN
from training.remeasure import read_to_measure, stored_splits

CALIBRATION_IMAGES: Final = 300
COMPARED_IMAGES: Final = 5_000
LEAST_TRAINING_IMAGES: Final = 20
LARGEST_DROP: Final = 0.001
"""Largest loss of accuracy, on the compared images, that plain quantization may have."""
DEFAULT_SEED: Final = 83
WEIGHTED: Final = frozenset({"Convolution", "GroupConvolution", "MatMul"})
FLOOR: Final = float(np.finfo(np.float32).tiny)
FOLDER: Final = Path(INT8_FILE).parent.name

Progress = Callable[[str], None]


@dataclass(frozen=True)
class _Way:
    """One way to quantize a graph."""

    bias_correction: Literal["fast", "full"]
    keeps_ends: bool = False
    """True to leave the first and the last layer with weights in float32."""
    controls_accuracy: bool = False
    """True to return layers to float32 until the accuracy on the compared images is kept."""


WAYS: Final = (_Way("fast"), _Way("full"), _Way("full", keeps_ends=True))


@dataclass(frozen=True)
class _Images:
    """Images for calibration, others to compare answers with, float32's answers to these, and what they are."""

    calibration: Split
    compared: Split
    expected: Probabilities
    description: str

    @property
    def float32_correct(self) -> int:
        return _correct(self.expected, self.compared)


@dataclass(frozen=True)
class _Trial:
    record: QuantizationTrial
    folder: Path

    def rank(self, images: _Images) -> tuple[bool, float]:
        """Return a sort key: trials that keep the accuracy come first, then those with the closest answers."""
        return self.loses_too_much(images), self.record.divergence

    def loses_too_much(self, images: _Images) -> bool:
        return images.float32_correct - self.record.correct > LARGEST_DROP * len(images.compared)


def quantize(
    folder: Path, data: Dataset, *, command: str, seed: int = DEFAULT_SEED, progress: Progress = lambda _: None
) -> ModelMetadata:
    """Add `int8/` to the version in a folder, measure it on every split that float32 was measured on, and record both.

    Args:
        folder: the folder of a published version.
        data: the data set that it was trained and evaluated on.
        command: repeats the quantization; for the metadata.
        seed: chooses the images for calibration and comparison.
        progress: called with a line for each step.

    Raises:
        ArtifactError: the version is incomplete or damaged.
        DatasetError: the version was evaluated on other data, or there are no training images.
        QuantizationError: it has an int8 network already, or NNCF can't quantize its graph.
        PublishError: the files can't be written; the version stays as it was.
    """
    metadata = read_to_measure(folder, data)
    if "int8" in metadata.golden.precisions:
        raise QuantizationError(
            f"{metadata.name} version {metadata.version} has an int8 network already",
            expected="a version without one: published versions don't change",
        )
    runtime = OpenVinoRuntime()
    reference = runtime.load(folder)
    check_golden(reference, folder, metadata, runtime.precision)
    images = _images(metadata, data, seed, reference)
    progress(f"float32: {images.float32_correct:,} of {len(images.compared):,} correct on {images.description}")

    network = folder if metadata.network_file == SAVED_MODEL_FILE else folder / metadata.network_file
    trials: list[_Trial] = []
    with _staging(folder) as staging:
        for way in _ways(trials, images):
            trial = _try(way, network, staging / str(len(trials)), images)
            progress(
                f"{_described(way)}: {trial.record.correct:,} correct, {trial.record.classes_changed:,} other classes, "
                f"divergence {trial.record.divergence:.5f}"
            )
            trials.append(trial)
        chosen = min(range(len(trials)), key=lambda number: trials[number].rank(images))
        with _write_errors(folder):
            if (folder / FOLDER).exists():  # of a run that was killed: no metadata refers to it
                shutil.rmtree(folder / FOLDER)
            (trials[chosen].folder / FOLDER).rename(folder / FOLDER)
    try:
        measured = measure_precision(folder, metadata, data, "int8")
        check = _check(folder, metadata, data, measured, reference)
        record = Quantization(
            method=f"NNCF {nncf.__version__}, post-training",
            calibrated_on=f"{len(images.calibration):,} training images",
            compared_on=images.description,
            n=len(images.compared),
            float32_correct=images.float32_correct,
            trials=[trial.record for trial in trials],
            chosen=chosen,
            seed=seed,
            quantized_at=datetime.now(UTC),
            git_commit=git_commit(),
            command=command,
            size_bytes=sum((folder / name).stat().st_size for name in (INT8_FILE, INT8_WEIGHTS_FILE)),
        )
        golden = metadata.golden.model_copy(update={"classes": metadata.golden.classes | {"int8": check}})
        files = {name: file_record(folder / name) for name in (INT8_FILE, INT8_WEIGHTS_FILE)}
        complete = measured.added_to(metadata, golden).model_copy(
            update={"quantization": record, "files": dict(sorted((metadata.files | files).items()))}
        )
        write_published(folder / METADATA_FILE, metadata_document(complete))
    except BaseException:
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        raise
    return complete


def _images(metadata: ModelMetadata, data: Dataset, seed: int, reference: LoadedModel) -> _Images:
    if len(data.train) < LEAST_TRAINING_IMAGES:
        raise DatasetError(
            f"{len(data.train)} training images",
            expected=f"at least {LEAST_TRAINING_IMAGES}, of the same classes: a folder with train/ and test/, or "
            "CIFAR-10",
        )
    held_out = stored_splits(metadata, data).get("validation")
    order = np.random.default_rng(seed).permutation(len(data.train))
    n = min(CALIBRATION_IMAGES, len(order) // 2)
    calibration = data.train.take(np.sort(order[:n]))
    if held_out is not None and len(held_out):
        rows = np.sort(np.random.default_rng(seed).permutation(len(held_out))[:COMPARED_IMAGES])
        compared, description = held_out.take(rows), f"{len(rows):,} held-out images"
    else:
        rows = np.sort(order[n : n + COMPARED_IMAGES])
        compared, description = data.train.take(rows), f"{len(rows):,} other training images"
    return _Images(calibration, compared, predict_all(reference, compared), description)


def _ways(trials: list[_Trial], images: _Images) -> Iterator[_Way]:
    """Yield the ways to try; the last one only if all before lose too much."""
    yield from WAYS
    if all(trial.loses_too_much(images) for trial in trials):
        yield _Way("full", controls_accuracy=True)


def _described(way: _Way) -> str:
    parts = [f"{way.bias_correction} bias correction"]
    parts += ["first and last layer in float32"] if way.keeps_ends else []
    parts += ["accuracy control"] if way.controls_accuracy else []
    return ", ".join(parts)


def _try(way: _Way, network: Path, folder: Path, images: _Images) -> _Trial:
    """Quantize a network in one way into a folder, and compare the stored answers with float32's."""
    model = _with_float32_weights(openvino.Core().read_model(network))
    names = _ends(model) if way.keeps_ends else []
    try:
        quantized = _quantized(way, model, names, images)
    except Exception as error:  # NNCF raises whatever it meets
        raise QuantizationError(
            f"NNCF {nncf.__version__} can't quantize {network}: {str(error).strip().splitlines()[0]}"
        ) from error
    with _write_errors(folder):
        (folder / FOLDER).mkdir(parents=True)
        # Stored and read again: a graph compiled as NNCF returns it may compute in float32.
        openvino.save_model(quantized, folder / INT8_FILE, compress_to_fp16=True)
    answers = predict_all(OpenVinoRuntime("int8").load(folder), images.compared)
    record = QuantizationTrial(
        bias_correction=way.bias_correction,
        float32_layers=names,
        classes_changed=int((answers.argmax(axis=1) != images.expected.argmax(axis=1)).sum()),
        divergence=_divergence(images.expected, answers),
        correct=_correct(answers, images.compared),
    )
    return _Trial(record, folder)


def _with_float32_weights(model: Any) -> Any:
    """Replace each float16 constant and its conversion with a float32 constant; NNCF would leave both in the graph."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convert":
            continue
        source = node.input_value(0).get_node()
        if source.get_type_name() == "Constant" and source.get_element_type() == openvino.Type.f16:
            constant = openvino.op.Constant(np.asarray(source.data, np.float32))
            constant.set_friendly_name(node.get_friendly_name())
            node.output(0).replace(constant.output(0))
    return model


def _ends(model: Any) -> list[str]:
    """Return the names of the first and the last layer with weights; names change each time a graph is read."""
    names = [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() in WEIGHTED]
    return [names[0], names[-1]] if len(names) > 1 else names


def _quantized(way: _Way, model: Any, float32_layers: list[str], images: _Images) -> Any:
    calibration, compared = images.calibration, images.compared
    nncf.set_log_level(logging.ERROR)
    options: dict[str, Any] = {
        "preset": nncf.QuantizationPreset.MIXED,
        "subset_size": len(calibration),
        "fast_bias_correction": way.bias_correction == "fast",
        "ignored_scope": nncf.IgnoredScope(names=float32_layers) if float32_layers else None,
    }
    calibrating = nncf.Dataset([calibration.images[index : index + 1] for index in range(len(calibration))])
    if not way.controls_accuracy:
        return nncf.quantize(model, calibrating, **options)
    del options["fast_bias_correction"]
    batches = nncf.Dataset(range(0, len(compared), CALIBRATION_IMAGES), lambda start: start)

    def accuracy(compiled: Any, starts: Any) -> float:
        right = 0
        for start in starts:
            part = compared.take(np.arange(start, min(start + CALIBRATION_IMAGES, len(compared))))
            right += _correct(np.asarray(compiled(part.pixels)[0]), part)
        return right / len(compared)

    return nncf.quantize_with_accuracy_control(
        model, calibrating, batches, validation_fn=accuracy, max_drop=LARGEST_DROP, **options
    )


def _check(
    folder: Path, metadata: ModelMetadata, data: Dataset, measured: MeasuredPrecision, reference: LoadedModel
) -> ClassCheck:
    answers = measured.answers["test"] if "test" in measured.answers else predict_all(measured.model, data.test)
    golden = read_golden(folder / metadata.golden.file)
    return class_check(
        predict_all(reference, data.test), answers, golden.probabilities, measured.model.predict(golden.images)
    )


def class_check(
    expected: Probabilities, answers: Probabilities, golden: Probabilities, golden_answers: Probabilities
) -> ClassCheck:
    """Return the golden check of a precision with these answers.

    The class must stay where its lead exceeds the largest difference of a probability over the test set, and the lead
    of every class that changed there. The bound on the mean is three times the mean over the test set, or over the
    golden images, whichever is larger, as the few golden images may be harder than others.

    Args:
        expected: float32's answers (n, classes) for the test images.
        answers: this precision's answers for them.
        golden: float32's answers for the golden images.
        golden_answers: this precision's answers for them.
    """
    differences, of_golden = _differences(expected, answers), _differences(golden, golden_answers)
    leads = [
        lead(one)[one.argmax(axis=1) != other.argmax(axis=1)]
        for one, other in ((expected, answers), (golden, golden_answers))
    ]
    means = (differences.mean(), of_golden.mean(), of_golden[:GOLDEN_IMAGES].mean())
    return ClassCheck(
        margin=float(max(differences.max(), *(values.max(initial=0.0) for values in leads), FLOOR)),
        mean_difference=float(max(REDUCED_PRECISION_MARGIN * max(means), FLOAT32_TOLERANCE)),
    )


def _differences(expected: Probabilities, answers: Probabilities) -> NDArray[np.float32]:
    return np.asarray(np.abs(answers - expected).max(axis=1))


def _divergence(expected: Probabilities, answers: Probabilities) -> float:
    p, q = (np.clip(values.astype(np.float64), FLOOR, 1.0) for values in (expected, answers))
    return max(0.0, float((p * np.log(p / q)).sum(axis=1).mean()))


def _correct(probabilities: Probabilities, split: Split) -> int:
    return int((probabilities.argmax(axis=1) == split.labels).sum())


@contextmanager
def _staging(version: Path) -> Iterator[Path]:
    """Yield a hidden folder inside the version's, so that its content can be renamed into place."""
    with _write_errors(version):
        staging = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=version))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PublishError(
            f"can't write to {folder}: {error.strerror or error}",
            expected="a folder with free space that this user may write to",
        ) from None
