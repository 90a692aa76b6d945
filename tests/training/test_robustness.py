import shutil
from pathlib import Path

import pytest

from cifar10_serving.artifacts.layout import published_versions, read_metadata, version_folder
from cifar10_serving.artifacts.robustness import Robustness, read_robustness, robustness_file
from cifar10_serving.errors import PublishError
from tests.conftest import MODELS
from tests.training.commands.training_command import last_line, run
from tests.training.report.conftest import add_version
from training.data import Dataset, Split, cifar10_dataset
from training.errors import DatasetError
from training.robustness import keep, measure_robustness


@pytest.fixture
def models(tmp_path: Path) -> Path:
    shutil.copytree(version_folder(MODELS, "subclassing", 1), version_folder(tmp_path, "subclassing", 1))
    return tmp_path


def test_other_data_than_it_was_evaluated_on_is_rejected(models: Path, small_cifar10: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"on which subclassing version 1 was evaluated"):
        measure_robustness(version_folder(models, "subclassing", 1), small_cifar10)


def test_model_of_any_name_is_measured(tmp_path: Path, golden_split: Split) -> None:
    folder = add_version(tmp_path, "seventh-model.v2", 1)
    data = cifar10_dataset(golden_split, golden_split, "golden images", read_metadata(folder).measured_data.sha256)
    table = measure_robustness(folder, data)
    assert (table.name, table.version, table.n) == ("seventh-model.v2", 1, 64)
    assert read_robustness(tmp_path, "seventh-model.v2", 1) is None
    keep(table, tmp_path)
    assert read_robustness(tmp_path, "seventh-model.v2", 1) == table


@pytest.mark.slow
@pytest.mark.full_data
def test_table_of_a_published_version(models: Path, full_data: Path) -> None:
    result = run("robustness", version_folder(models, "subclassing", 1), "--data", full_data)
    assert result.returncode == 0, result.stderr
    file = robustness_file(models, "subclassing", 1)
    assert last_line(result.stdout) == str(file)
    table = Robustness.model_validate_json(file.read_bytes())
    assert table.clean_accuracy == 0.7121
    assert {(entry.corruption, entry.strength) for entry in table.results} == {
        (name, strength) for name in ("noise", "blur", "contrast", "jpeg") for strength in (1, 2, 3)
    }
    assert all(entry.accuracy == entry.correct / 10_000 < table.clean_accuracy for entry in table.results)
    assert published_versions(models, "subclassing") == [1]


def test_table_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    table = Robustness(
        name="vgg16",
        version=1,
        runtime="openvino",
        runtime_version="1",
        precision="float32",
        dataset_sha256="0" * 64,
        n=10,
        clean_accuracy=0.5,
        results=[],
        mean_accuracy=0.5,
    )
    with pytest.raises(PublishError, match="can't write"):
        keep(table, tmp_path)
    (tmp_path / "vgg16").mkdir()
    assert Robustness.model_validate_json(keep(table, tmp_path).read_bytes()) == table
    assert [file.name for file in (tmp_path / "vgg16").iterdir()] == ["robustness-1.json"]
