import shutil
from pathlib import Path

import numpy as np
import pytest

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.runtimes.golden import GoldenAnswers, read_golden
from cifar10_serving.schemas import VersionState
from service.errors import SettingsError, UnavailableError, UnknownModelError
from service.registry.loading import VersionLoader
from service.registry.repository import RETRY_WHILE_LOADING_S, ModelRepository, ModelVersion
from tests.conftest import MODELS, PUBLISHED, SMALL_MODELS, newest_version
from tests.fakes import FakeRuntime
from tests.version_copies import flip_a_bit, publish_copy, publish_relabelled, rewrite_checksums
from training.cifar10 import CLASS_NAMES


@pytest.fixture(scope="module")
def runtime() -> FakeRuntime:
    return FakeRuntime()


def loaded(models: Path, runtime: FakeRuntime, version_policy: str = "latest(1)") -> ModelRepository:
    repository = ModelRepository(models, runtime, version_policy=version_policy)
    repository.load_all()
    return repository


def test_every_published_model_of_the_clone_is_ready(runtime: FakeRuntime) -> None:
    repository = loaded(MODELS, runtime)
    assert repository.not_ready_reason is None
    for name in PUBLISHED:
        entry = repository.find(name)
        assert entry.state is VersionState.READY
        assert entry.model is not None


def test_nothing_is_ready_before_loading(runtime: FakeRuntime) -> None:
    repository = ModelRepository(MODELS, runtime)
    assert repository.not_ready_reason == "models are being loaded"
    with pytest.raises(UnavailableError, match=r"no model is ready"):
        repository.find()
    newest = newest_version("sequential")
    with pytest.raises(UnavailableError, match=rf"sequential version {newest} is being loaded"):
        repository.find("sequential", newest)


def found_while_loading(repository: ModelRepository, monkeypatch: pytest.MonkeyPatch) -> dict[str, str | int]:
    """Return the model that answers by default, or the seconds to retry after, before each model is loaded."""
    found: dict[str, str | int] = {}
    load = VersionLoader.load

    def noting(loader: VersionLoader, entry: ModelVersion) -> bool:
        assert repository.not_ready_reason == "models are being loaded"
        try:
            found[entry.name] = repository.find().name
        except UnavailableError as error:
            found[entry.name] = error.retry_after_s
        return load(loader, entry)

    monkeypatch.setattr(VersionLoader, "load", noting)
    repository.load_all()
    return found


def test_best_model_that_is_ready_answers_while_others_are_loaded(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = ModelRepository(SMALL_MODELS, runtime)
    found = found_while_loading(repository, monkeypatch)
    order = list(found)
    accuracy = {model.name: model.versions[0].test_accuracy or 0 for model in repository.status().models}
    assert found[order[0]] == RETRY_WHILE_LOADING_S
    for count, name in enumerate(order[1:], 1):
        assert found[name] == max(order[:count], key=accuracy.__getitem__)


def test_default_model_that_is_set_is_waited_for(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = ModelRepository(SMALL_MODELS, runtime, "subclassing")
    assert set(found_while_loading(repository, monkeypatch).values()) == {RETRY_WHILE_LOADING_S}
    assert repository.find().name == "subclassing"


def test_default_is_the_most_accurate(runtime: FakeRuntime) -> None:
    repository = loaded(SMALL_MODELS, runtime)
    accuracy = {model.name: model.versions[0].test_accuracy or 0 for model in repository.status().models}
    assert repository.default_name() == max(accuracy, key=lambda name: accuracy[name])


LEAVES = [f"leaf {number}" for number in range(10)]


def default_of(models: Path, runtime: FakeRuntime, labels: frozenset[str]) -> str | None:
    repository = ModelRepository(models, runtime, default_labels=labels)
    repository.load_all()
    return repository.default_name()


def test_default_is_chosen_among_the_models_with_the_default_labels(one_model: Path, runtime: FakeRuntime) -> None:
    publish_relabelled(one_model, "leaves", LEAVES)
    publish_relabelled(one_model, "leaves-2", LEAVES[::-1], accuracy=0.995)
    publish_relabelled(one_model, "not-measured", LEAVES, accuracy=None)
    assert default_of(one_model, runtime, frozenset(CLASS_NAMES)) == "sequential"
    assert default_of(one_model, runtime, frozenset(LEAVES)) == "leaves-2"
    assert default_of(one_model, runtime, frozenset({"cat", "dog"})) == "leaves-2"


def test_model_with_other_labels_does_not_answer_for_one_that_failed(one_model: Path, runtime: FakeRuntime) -> None:
    publish_relabelled(one_model, "leaves", LEAVES)
    flip_a_bit(version_folder(one_model, "sequential", 1) / "saved_model.pb")
    repository = ModelRepository(one_model, runtime, default_labels=frozenset(CLASS_NAMES))
    repository.load_all()
    assert repository.not_ready_reason is None
    with pytest.raises(UnavailableError, match="none of those with the default labels can answer"):
        repository.find()
    assert repository.find("leaves").name == "leaves"
    repository.unload("sequential")
    assert repository.find().name == "leaves"


def test_a_model_that_was_not_measured_is_the_last_choice(one_model: Path, runtime: FakeRuntime) -> None:
    publish_relabelled(one_model, "another", list(CLASS_NAMES), accuracy=None)
    publish_relabelled(one_model, "bad", list(CLASS_NAMES), accuracy=0.0)
    shutil.rmtree(one_model / "sequential")
    assert default_of(one_model, runtime, frozenset(CLASS_NAMES)) == "bad"
    shutil.rmtree(one_model / "bad")
    assert default_of(one_model, runtime, frozenset(CLASS_NAMES)) == "another"


def test_default_model_can_be_set_and_never_falls_back(one_model: Path, runtime: FakeRuntime) -> None:
    shutil.copytree(version_folder(MODELS, "functional", 1), version_folder(one_model, "functional", 1))
    flip_a_bit(version_folder(one_model, "functional", 1) / "saved_model.pb")
    repository = ModelRepository(one_model, runtime, "functional")
    repository.load_all()
    assert repository.not_ready_reason is None
    with pytest.raises(
        UnavailableError, match=r"functional version 1 could not be loaded: functional/1/saved_model.pb"
    ):
        repository.find()
    assert repository.find("sequential").name == "sequential"


def test_default_model_that_is_not_published_stops_the_start(one_model: Path, runtime: FakeRuntime) -> None:
    with pytest.raises(SettingsError, match=r"default model 'vgg16' has no published version\. Expected: auto"):
        ModelRepository(one_model, runtime, "vgg16")
    with pytest.raises(SettingsError, match=r"has no published version \(did you mean 'sequential'\?\)"):
        ModelRepository(one_model, runtime, "sequental")


def test_other_entries_of_the_folder_are_passed_over(one_model: Path, runtime: FakeRuntime) -> None:
    (one_model / "lost+found").mkdir()
    (one_model / "README.md").write_text("a file")
    assert [model.name for model in loaded(one_model, runtime).status().models] == ["sequential"]


def test_loading_can_be_stopped_between_versions(one_model: Path, runtime: FakeRuntime) -> None:
    repository = ModelRepository(one_model, runtime)
    repository.stop_loading()
    repository.load_all()
    assert not repository.is_loaded
    assert repository.get("sequential", 1).state is VersionState.LOADING


def test_unknown_model_and_version_name_what_there_is(one_model: Path, runtime: FakeRuntime) -> None:
    repository = loaded(one_model, runtime)
    with pytest.raises(UnknownModelError, match=r"no model 'nope'. Expected: one of sequential"):
        repository.find("nope")
    with pytest.raises(UnknownModelError, match=r"sequential has no version 4. Expected: one of 1"):
        repository.find("sequential", 4)


def test_latest_ready_version_answers(one_model: Path, runtime: FakeRuntime) -> None:
    publish_copy(one_model, 2)
    publish_copy(one_model, 10)
    repository = loaded(one_model, runtime, "all")
    assert repository.find("sequential").version == 10
    assert repository.find("sequential", 2).version == 2
    assert [entry.version for entry in repository.model_status("sequential").versions] == [10, 2, 1]


def test_broken_newer_version_leaves_the_old_one_answering(one_model: Path, runtime: FakeRuntime) -> None:
    publish_copy(one_model, 2, broken=True)
    repository = loaded(one_model, runtime)
    assert repository.find("sequential").version == 1
    status = repository.model_status("sequential")
    assert (status.state, status.serving_version) == (VersionState.READY, 1)
    assert status.versions[0].state is VersionState.FAILED
    assert "saved_model.pb is not what was published" in (status.versions[0].reason or "")
    with pytest.raises(UnavailableError, match=r"sequential version 2 could not be loaded: .*saved_model.pb"):
        repository.find("sequential", 2)


def test_version_whose_golden_answers_differ_never_serves(one_model: Path, runtime: FakeRuntime) -> None:
    folder = version_folder(one_model, "sequential", 1)
    golden = read_golden(folder / "golden.npz")
    GoldenAnswers(golden.images, golden.labels, np.roll(golden.probabilities, 1, axis=1)).save(folder / "golden.npz")
    rewrite_checksums(folder)
    repository = loaded(one_model, runtime)
    assert repository.not_ready_reason == "no published version could be loaded; see GET /models"
    assert "away from its published probabilities" in (repository.get("sequential", 1).reason or "")


@pytest.mark.parametrize("rows", [0, 1])
def test_golden_file_with_too_few_answers_is_not_a_pass(one_model: Path, runtime: FakeRuntime, rows: int) -> None:
    folder = version_folder(one_model, "sequential", 1)
    golden = read_golden(folder / "golden.npz")
    GoldenAnswers(golden.images[:rows], golden.labels[:rows], golden.probabilities[:rows]).save(folder / "golden.npz")
    rewrite_checksums(folder)
    assert "Expected: 64 of each" in (loaded(one_model, runtime).get("sequential", 1).reason or "")


def test_version_without_checksums_never_serves(one_model: Path, runtime: FakeRuntime) -> None:
    folder = version_folder(one_model, "sequential", 1)
    metadata = read_metadata(folder).model_copy(update={"files": {}})
    (folder / "metadata.json").write_text(metadata.model_dump_json())
    assert "has no checksum of golden.npz, saved_model.pb" in (
        loaded(one_model, runtime).get("sequential", 1).reason or ""
    )


@pytest.mark.parametrize("content", ["", "{", '{"name": "sequential"}'])
def test_unreadable_metadata_is_a_reason_not_a_crash(one_model: Path, runtime: FakeRuntime, content: str) -> None:
    (version_folder(one_model, "sequential", 1) / "metadata.json").write_text(content)
    entry = loaded(one_model, runtime).get("sequential", 1)
    assert entry.state is VersionState.FAILED
    assert "metadata.json" in (entry.reason or "")


def test_empty_folder_is_not_ready_and_says_so(tmp_path: Path, runtime: FakeRuntime) -> None:
    repository = loaded(tmp_path, runtime)
    assert repository.not_ready_reason == f"there is no published version in {tmp_path}"
    assert repository.status().models == []
