"""Measure a published version on corrupted images and store the table beside it.

`training.corruptions` defines the corruptions. The artifact runs as it serves on a CPU: OpenVINO, float32.
"""

from pathlib import Path

from cifar10_serving.artifacts.files import write_published
from cifar10_serving.artifacts.robustness import CorruptedResult, Robustness, robustness_file
from cifar10_serving.runtimes.golden import check_golden
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from training.corruptions import CORRUPTIONS, STRENGTHS
from training.data import Dataset, Split
from training.evaluate import predict_all
from training.remeasure import read_to_measure


def measure_robustness(folder: Path, data: Dataset) -> Robustness:
    """Run every corruption of the test images through the version in a folder.

    Raises:
        ArtifactError: the version is incomplete or damaged.
        ModelLoadError: it can't be loaded, or fails its golden check.
        DatasetError: the version was evaluated on other data.
    """
    metadata = read_to_measure(folder, data)
    runtime = OpenVinoRuntime()
    model = runtime.load(folder)
    check_golden(model, folder, metadata, runtime.precision)

    def correct(split: Split) -> int:
        return int((predict_all(model, split).argmax(axis=1) == split.labels).sum())

    n = len(data.test)
    results = []
    for corruption in CORRUPTIONS:
        for strength in STRENGTHS:
            right = correct(Split(corruption.apply(data.test.pixels, strength), data.test.labels))
            results.append(
                CorruptedResult(
                    corruption=corruption.name,
                    strength=strength,
                    parameter=corruption.parameters[strength - 1],
                    parameter_name=corruption.parameter_name,
                    correct=right,
                    accuracy=right / n,
                )
            )
    return Robustness(
        name=metadata.name,
        version=metadata.version,
        runtime=runtime.name,
        runtime_version=runtime.version,
        precision=runtime.precision,
        dataset_sha256=data.sha256,
        n=n,
        clean_accuracy=correct(data.test) / n,
        results=results,
        mean_accuracy=sum(result.correct for result in results) / (n * len(results)),
    )


def keep(robustness: Robustness, models: Path) -> Path:
    """Write the table beside the version, replacing an earlier one; return its path.

    Raises:
        PublishError: the folder can't be written to.
    """
    file = robustness_file(models, robustness.name, robustness.version)
    write_published(file, robustness.model_dump_json(indent=1))
    return file
