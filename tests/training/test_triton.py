import json
from pathlib import Path

import openvino
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.errors import ArtifactError, PublishError
from cifar10_serving.runtimes.golden import read_golden
from tests.conftest import MODELS, newest_version
from tests.other_models import publish_renamed
from tests.training.commands.training_command import last_line, run
from tests.version_copies import flip_a_bit
from training.cifar10 import CLASS_NAMES
from training.triton import write_triton_repository


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_triton_repository(MODELS, "sequential", 2, tmp_path / "repository")
    return tmp_path / "repository"


def test_layout_is_the_one_of_the_openvino_backend(repository: Path) -> None:
    files = {file.relative_to(repository).as_posix() for file in repository.rglob("*") if file.is_file()}
    assert files == {
        "sequential/config.pbtxt",
        "sequential/labels.txt",
        "sequential/2/model.saved_model/saved_model.pb",
        "sequential/2/model.saved_model/variables/variables.index",
        "sequential/2/model.saved_model/variables/variables.data-00000-of-00001",
    }
    assert (repository / "sequential/labels.txt").read_text().split() == list(CLASS_NAMES)


def test_configuration_is_what_tritons_own_schema_reads(repository: Path) -> None:
    config = model_config_pb2.ModelConfig()
    text_format.Parse((repository / "sequential/config.pbtxt").read_text(), config)
    assert (config.name, config.backend, config.max_batch_size) == ("sequential", "openvino", 0)
    assert config.default_model_filename == "model.saved_model"
    (images,), (probabilities,) = config.input, config.output
    assert (images.name, images.data_type, list(images.dims)) == (
        "images",
        model_config_pb2.TYPE_UINT8,
        [-1, 32, 32, 3],
    )
    assert (probabilities.name, probabilities.data_type, list(probabilities.dims)) == (
        "probabilities",
        model_config_pb2.TYPE_FP32,
        [-1, 10],
    )
    assert probabilities.label_filename == "labels.txt"


def test_openvino_reads_it_by_the_names_of_the_configuration(repository: Path) -> None:
    model = openvino.Core().read_model(repository / "sequential/2/model.saved_model")
    assert model.input("images").get_partial_shape() == openvino.PartialShape([-1, 32, 32, 3])
    golden = read_golden(version_folder(MODELS, "sequential", 2) / "golden.npz")
    answers = openvino.Core().compile_model(model, "CPU")({"images": golden.images[:4]})["probabilities"]
    assert answers == pytest.approx(golden.probabilities[:4], abs=1e-2)


def test_other_version_is_added_and_the_same_one_is_not_overwritten(repository: Path) -> None:
    write_triton_repository(MODELS, "sequential", 3, repository)
    assert {entry.name for entry in (repository / "sequential").iterdir() if entry.is_dir()} == {"2", "3"}
    with pytest.raises(PublishError, match="already exists"):
        write_triton_repository(MODELS, "sequential", 3, repository)


def test_version_that_is_not_whole_leaves_nothing(one_model: Path, tmp_path: Path) -> None:
    flip_a_bit(one_model / "sequential/1/saved_model.pb")
    with pytest.raises(ArtifactError):
        write_triton_repository(one_model, "sequential", 1, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


@pytest.mark.slow
def test_version_without_a_saved_model_is_named_and_left_out(tmp_path: Path) -> None:
    models = tmp_path / "models"
    publish_renamed(models, "trained", "Trained")
    publish_renamed(models, "from-onnx", "From ONNX")
    file = models / "from-onnx/1/metadata.json"
    document = json.loads(file.read_text())
    document["files"]["openvino/model.xml"] = document["files"].pop("saved_model.pb")
    file.write_text(json.dumps(document))
    every = run("export", "--for", "triton", "--models", models, "--to", tmp_path / "repository")
    assert every.returncode == 0, every.stderr
    assert "left out: from-onnx version 1 has no SavedModel" in every.stdout
    assert [entry.name for entry in (tmp_path / "repository").iterdir()] == ["trained"]
    one = run("export", "--for", "triton", "from-onnx", "--models", models, "--to", tmp_path / "repository")
    assert one.returncode == 1
    assert "from-onnx/1 has no saved_model.pb, as it was imported from ONNX" in last_line(one.stderr)


@pytest.mark.slow
def test_command_writes_the_newest_version_of_each_model(tmp_path: Path) -> None:
    result = run("export", "--for", "triton", "sequential", "--to", tmp_path / "repository")
    assert result.returncode == 0, result.stderr
    assert (
        tmp_path / f"repository/sequential/{newest_version('sequential')}/model.saved_model/saved_model.pb"
    ).exists()
    assert last_line(result.stdout) == f"tritonserver --model-repository={tmp_path / 'repository'}"
    nothing = run("export", "--for", "triton", "--models", tmp_path / "nowhere", "--to", tmp_path / "repository")
    assert nothing.returncode == 1
    assert "no published version of" in last_line(nothing.stderr)
    assert "no MODEL" in last_line(run("export").stderr)
