import json
import shutil
from pathlib import Path

import pytest

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.errors import ArtifactCorruptError
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from tests.conftest import MODELS
from training.cifar10 import CLASS_NAMES
from training.data import Dataset, Split, cifar10_dataset, load_cifar10
from training.errors import DatasetError
from training.evaluate import evaluate
from training.remeasure import remeasure


@pytest.fixture
def small_version(one_model: Path, golden_split: Split) -> tuple[Path, Dataset]:
    """A version whose stored evaluation is of the 64 golden images, and that data."""
    folder = version_folder(one_model, "sequential", 1)
    metadata = read_metadata(folder)
    data = cifar10_dataset(golden_split, golden_split, "golden images", metadata.measured_data.sha256)
    runtime = OpenVinoRuntime()
    stored, _ = evaluate(runtime, runtime.load(folder), golden_split, "test", CLASS_NAMES)
    (folder / "metadata.json").write_text(metadata.model_copy(update={"evaluations": [stored]}).model_dump_json())
    return folder, data


def test_version_that_is_as_published_matches(small_version: tuple[Path, Dataset]) -> None:
    (comparison,) = remeasure(*small_version)
    assert comparison.matches
    assert comparison.now is not None
    assert comparison.now.correct == comparison.stored.correct


@pytest.mark.parametrize("change", [{"correct": 60}, {"loss": 1.0}])
def test_metadata_that_says_something_else_does_not_match(
    small_version: tuple[Path, Dataset], change: dict[str, float]
) -> None:
    folder, data = small_version
    metadata = read_metadata(folder)
    wrong = metadata.evaluations[0].model_copy(update=change)
    (folder / "metadata.json").write_text(metadata.model_copy(update={"evaluations": [wrong]}).model_dump_json())
    (comparison,) = remeasure(folder, data)
    assert not comparison.matches


def test_precision_that_this_machine_lacks_is_told_and_not_counted(
    small_version: tuple[Path, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, data = small_version
    metadata = read_metadata(folder)
    stored = metadata.evaluations[0].model_copy(update={"precision": "bfloat16"})
    (folder / "metadata.json").write_text(metadata.model_copy(update={"evaluations": [stored]}).model_dump_json())
    monkeypatch.setattr("cifar10_serving.runtimes.openvino.has_bfloat16", lambda _core: False)
    (comparison,) = remeasure(folder, data)
    assert comparison.now is None
    assert "bfloat16 on a CPU without" in comparison.reason
    assert comparison.matches


def test_changed_file_is_found_before_anything_is_measured(small_version: tuple[Path, Dataset]) -> None:
    folder, data = small_version
    shutil.copy(folder / "metadata.json", folder / "golden.npz")
    with pytest.raises(ArtifactCorruptError, match=r"golden\.npz is not what was published"):
        remeasure(folder, data)


def test_other_data_is_rejected(small_version: tuple[Path, Dataset]) -> None:
    folder, data = small_version
    with pytest.raises(DatasetError, match="on which sequential version 1 was evaluated"):
        remeasure(folder, cifar10_dataset(data.train, data.test, data.source, "f" * 64))


def test_labels_are_those_of_the_version(small_version: tuple[Path, Dataset]) -> None:
    folder, data = small_version
    labels = [f"class {index}" for index in range(10)]
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["labels"] = labels
    for label, result in zip(labels, metadata["evaluations"][0]["per_class"], strict=True):
        result["label"] = label
    (folder / "metadata.json").write_text(json.dumps(metadata))
    (comparison,) = remeasure(folder, data)
    assert comparison.matches
    assert comparison.now is not None
    assert [result.label for result in comparison.now.per_class] == labels


def test_validation_images_of_an_unknown_recipe_are_told_and_not_counted(small_version: tuple[Path, Dataset]) -> None:
    folder, data = small_version
    metadata = read_metadata(folder)
    stored = metadata.evaluations[0].model_copy(update={"split": "validation"})
    changed = metadata.model_copy(update={"evaluations": [stored], "recipe": {"name": "mine"}})
    (folder / "metadata.json").write_text(changed.model_dump_json())
    (comparison,) = remeasure(folder, data)
    assert comparison.now is None
    assert comparison.reason == "the recipe doesn't say which images the validation split has"
    assert comparison.matches


def test_version_of_another_input_size_is_rejected(small_version: tuple[Path, Dataset]) -> None:
    folder, data = small_version
    metadata = json.loads((folder / "metadata.json").read_text())
    (serving,) = (spec for spec in metadata["signatures"] if spec["name"] == "serving_default")
    serving["inputs"][0]["shape"] = [-1, 48, 64, 3]
    (folder / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(DatasetError, match=r"\(48, 64, 3\), which sequential version 1 takes"):
        remeasure(folder, data)


@pytest.mark.full_data
@pytest.mark.slow
def test_published_version_matches_on_the_whole_of_cifar10(full_data: Path) -> None:
    comparisons = remeasure(version_folder(MODELS, "sequential", 1), load_cifar10(full_data))
    assert len(comparisons) >= 4
    assert all(comparison.matches for comparison in comparisons)
