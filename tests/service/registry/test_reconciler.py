"""The versions of a real folder while it changes, seen through the repository."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.artifacts.metadata import Precision
from cifar10_serving.schemas import ReloadReport, VersionState
from service.errors import UnavailableError, UnknownModelError
from service.registry.repository import ModelRepository
from service.registry.watcher import Watcher
from tests.conftest import MODELS
from tests.fakes import FakeRuntime, PublishedModel
from tests.leases import lease
from tests.version_copies import flip_a_bit, publish_copy, withdraw, write_rollout
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture(scope="module")
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def repository(one_model: Path, runtime: FakeRuntime) -> ModelRepository:
    repository = ModelRepository(one_model, runtime, drain_limit_s=10)
    repository.load_all()
    return repository


def names(report: ReloadReport) -> tuple[list[int], list[int], list[int]]:
    """The versions loaded, unloaded and failed."""
    return (
        [entry.version for entry in report.loaded],
        [entry.version for entry in report.unloaded],
        [entry.version for entry in report.failed],
    )


def states(repository: ModelRepository) -> dict[int, VersionState]:
    return {entry.version: entry.state for entry in repository.model_status("sequential").versions}


def test_nothing_new_changes_nothing(repository: ModelRepository) -> None:
    generation, entry = repository.generation, repository.find("sequential")
    assert names(repository.refresh()) == ([], [], [])
    assert repository.generation == generation
    assert names(repository.refresh(retry_failed=True)) == ([], [], [])
    assert repository.find("sequential") is entry


def test_new_version_takes_over_and_the_old_one_is_unloaded(one_model: Path, repository: ModelRepository) -> None:
    old = repository.find("sequential")
    publish_copy(one_model, 2)
    assert names(repository.refresh()) == ([2], [1], [])
    assert repository.find("sequential").version == 2
    assert old.model is None
    assert states(repository) == {2: VersionState.READY, 1: VersionState.PUBLISHED}
    with pytest.raises(UnknownModelError, match=r"version 1 is published but not served: the policy latest\(1\)"):
        repository.find("sequential", 1)
    assert repository.get("sequential", 1).metadata is not None


def test_withdrawn_version_gives_way_to_the_one_before(one_model: Path, repository: ModelRepository) -> None:
    publish_copy(one_model, 2)
    repository.refresh()
    withdraw(one_model, 2)
    assert names(repository.refresh()) == ([1], [2], [])
    assert repository.find("sequential").version == 1
    assert states(repository) == {1: VersionState.READY}


def test_model_goes_with_its_last_version_and_comes_back(one_model: Path, repository: ModelRepository) -> None:
    withdraw(one_model, 1)
    assert names(repository.refresh()) == ([], [1], [])
    assert repository.status().models == []
    assert repository.not_ready_reason == f"there is no published version in {one_model}"
    with pytest.raises(UnknownModelError):
        repository.find("sequential")
    publish_copy(one_model, 1)
    assert names(repository.refresh()) == ([1], [], [])
    assert repository.find().version == 1


def test_new_model_appears_and_may_become_the_default(one_model: Path, repository: ModelRepository) -> None:
    publish_copy(one_model, 1, name="subclassing", source=2)
    assert [(entry.model, entry.version) for entry in repository.refresh().loaded] == [("subclassing", 1)]
    assert repository.default_name() == "subclassing"


def test_broken_version_changes_nothing_but_its_own_state(one_model: Path, repository: ModelRepository) -> None:
    old = repository.find("sequential")
    broken = publish_copy(one_model, 2, broken=True)
    report = repository.refresh()
    assert names(report) == ([], [], [2])
    assert "saved_model.pb is not what was published" in report.failed[0].reason
    assert repository.find("sequential") is old
    assert old.model is not None
    assert names(repository.refresh()) == ([], [], [])
    assert names(repository.refresh(retry_failed=True)) == ([], [], [2])
    flip_a_bit(broken / "saved_model.pb")
    assert names(repository.refresh()) == ([2], [1], [])


def test_version_whose_files_change_is_reloaded_or_keeps_serving(one_model: Path, repository: ModelRepository) -> None:
    first = repository.find("sequential")
    file = version_folder(one_model, "sequential", 1) / "saved_model.pb"
    flip_a_bit(file)
    assert names(repository.refresh()) == ([], [], [1])
    assert repository.find("sequential") is first
    status = repository.model_status("sequential").versions[0]
    assert (status.state, repository.not_ready_reason) == (VersionState.FAILED, None)
    assert "keep serving" in (status.reason or "")
    flip_a_bit(file)
    assert names(repository.refresh()) == ([1], [], [])
    assert repository.find("sequential") is not first
    assert first.model is None


def test_half_copied_version_fails_and_is_loaded_once_it_is_whole(one_model: Path, repository: ModelRepository) -> None:
    whole = publish_copy(one_model, 2)
    metadata = (whole / "metadata.json").read_text()
    (whole / "metadata.json").unlink()
    assert names(repository.refresh()) == ([], [], [2])
    (whole / "metadata.json").write_text(metadata)
    assert names(repository.refresh()) == ([2], [1], [])


def test_folder_that_is_away_withdraws_nothing(one_model: Path, repository: ModelRepository) -> None:
    one_model.rename(one_model.with_name("away"))
    report = repository.refresh()
    assert names(report) == ([], [], [])
    assert "there is no such folder" in report.problems[0]
    assert repository.find("sequential").version == 1
    one_model.with_name("away").rename(one_model)
    assert repository.refresh().problems == []


def test_request_that_has_the_old_version_finishes_on_it(one_model: Path, repository: ModelRepository) -> None:
    publish_copy(one_model, 2)
    with lease(repository, "sequential") as old:
        refreshing = threading.Thread(target=repository.refresh)
        refreshing.start()
        wait_until(lambda: repository.find("sequential").version == 2)
        assert old.model is not None
        with lease(repository, "sequential") as new:
            assert (old.version, new.version) == (1, 2)
        assert states(repository)[1] in (VersionState.READY, VersionState.DRAINING)
    refreshing.join()
    assert old.model is None
    assert states(repository)[1] is VersionState.PUBLISHED


def test_draining_has_a_limit(one_model: Path, runtime: FakeRuntime) -> None:
    repository = ModelRepository(one_model, runtime, drain_limit_s=0.05)
    repository.load_all()
    publish_copy(one_model, 2)
    with lease(repository, "sequential") as old:
        assert names(repository.refresh()) == ([2], [1], [])
        assert old.model is None


def test_leases_are_never_of_an_unloaded_version(one_model: Path, repository: ModelRepository) -> None:
    over = threading.Event()
    wrong: list[str] = []

    def ask() -> None:
        while not over.is_set():
            with lease(repository, "sequential") as entry:
                if entry.model is None:
                    wrong.append(str(entry))
            time.sleep(0.0005)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in range(2, 5):
        publish_copy(one_model, version)
        repository.refresh()
    over.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_rollout_is_followed_from_a_canary_to_everyone(one_model: Path, repository: ModelRepository) -> None:
    write_rollout(one_model, labels={"stable": 1})
    repository.refresh()
    publish_copy(one_model, 2)
    repository.refresh()
    assert repository.find("sequential").version == 1
    assert repository.find("sequential", "stable").version == 1
    with pytest.raises(UnknownModelError, match=r"no version labelled 'canary'. Expected: one of 1, 2, stable"):
        repository.find("sequential", "canary")
    write_rollout(one_model, labels={"stable": 1, "canary": 2}, split={"1": 50, "2": 50})
    repository.refresh()
    assert repository.find("sequential", "canary").version == 2
    assert {repository.find("sequential").version for _ in range(100)} == {1, 2}
    write_rollout(one_model, labels={"stable": 2})
    assert names(repository.refresh()) == ([], [1], [])
    assert {repository.find("sequential").version for _ in range(20)} == {2}


def test_label_moves_once_its_new_version_is_loaded(
    one_model: Path, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rollout(one_model, labels={"stable": 1, "canary": 1})
    repository.refresh()
    publish_copy(one_model, 2)
    write_rollout(one_model, labels={"stable": 1, "canary": 2})
    answered = []
    load = FakeRuntime.load

    def load_while_asked(runtime: FakeRuntime, folder: Path, precision: Precision) -> PublishedModel:
        answered.append(repository.find("sequential", "canary").version)
        return load(runtime, folder, precision)

    monkeypatch.setattr(FakeRuntime, "load", load_while_asked)
    repository.refresh()
    assert answered == [1]
    assert repository.find("sequential", "canary").version == 2


def test_label_stays_where_its_new_version_is_broken(one_model: Path, repository: ModelRepository) -> None:
    write_rollout(one_model, labels={"canary": 1})
    repository.refresh()
    publish_copy(one_model, 2, broken=True)
    write_rollout(one_model, labels={"canary": 2})
    assert names(repository.refresh()) == ([], [], [2])
    assert repository.find("sequential", "canary").version == 1
    assert repository.model_status("sequential").labels == {"canary": 1}


def test_broken_rollout_is_reported_and_the_one_before_stays(one_model: Path, repository: ModelRepository) -> None:
    publish_copy(one_model, 2)
    write_rollout(one_model, policy=[1], labels={"stable": 1})
    repository.refresh()
    for content in ({"polcy": "all"}, {"labels": {"stable": 3}}):
        write_rollout(one_model, **content)
        problem = repository.refresh().problems[0]
        assert problem.startswith("sequential/serving.json")
        status = repository.model_status("sequential")
        assert (status.policy, status.labels, status.problem) == ("[1]", {"stable": 1}, problem)
        assert repository.find("sequential", "stable").version == 1
    publish_copy(one_model, 3)
    assert repository.refresh().problems == []
    assert repository.find("sequential", "stable").version == 3


def test_listed_version_that_is_broken_leaves_the_old_one(one_model: Path, repository: ModelRepository) -> None:
    publish_copy(one_model, 2, broken=True)
    write_rollout(one_model, policy=[2], labels={"canary": 2})
    assert names(repository.refresh()) == ([], [], [2])
    assert repository.find("sequential").version == 1
    with pytest.raises(UnavailableError, match=r"sequential version 2 could not be loaded: .*saved_model.pb"):
        repository.find("sequential", "canary")


def test_rollout_that_chooses_nothing_that_works_says_so(one_model: Path, runtime: FakeRuntime) -> None:
    flip_a_bit(version_folder(one_model, "sequential", 1) / "saved_model.pb")
    publish_copy(one_model, 2)
    write_rollout(one_model, policy=[1])
    repository = ModelRepository(one_model, runtime)
    repository.load_all()
    assert states(repository) == {2: VersionState.PUBLISHED, 1: VersionState.FAILED}
    assert repository.not_ready_reason == "no published version could be loaded; see GET /models"
    with pytest.raises(UnavailableError, match=r"sequential version 1 could not be loaded"):
        repository.find("sequential")


class HangingRuntime(FakeRuntime):
    """Loads version 2 only once it is let go, as where a file of it hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.let_go = threading.Event(), threading.Event()

    def load(self, folder: Path, precision: Precision | None = None) -> PublishedModel:
        if folder.name == "2":
            self.asked.set()
            assert self.let_go.wait(PATIENCE_S)
        return super().load(folder, precision)


@pytest.fixture
def hanging() -> Iterator[HangingRuntime]:
    runtime = HangingRuntime()
    yield runtime
    runtime.let_go.set()


def test_version_that_hangs_keeps_no_other_from_serving_and_is_tried_again(
    one_model: Path, hanging: HangingRuntime
) -> None:
    publish_copy(one_model, 2)
    repository = ModelRepository(one_model, hanging, version_policy="all", load_limit_s=2)
    repository.load_all()
    assert states(repository) == {2: VersionState.FAILED, 1: VersionState.READY}
    assert "no response within 2 s" in str(repository.get("sequential", 2).reason)
    repository.refresh()
    assert states(repository)[2] is VersionState.FAILED
    hanging.let_go.set()

    def is_ready() -> bool:
        repository.refresh()
        return states(repository)[2] is VersionState.READY

    wait_until(is_ready)


def test_stop_waits_for_no_version_that_hangs(one_model: Path, hanging: HangingRuntime) -> None:
    publish_copy(one_model, 2)
    repository = ModelRepository(one_model, hanging)
    watcher = Watcher(repository, 0)
    loading = watcher.start_loading()
    asking = threading.Thread(target=_load_and_be_told, args=(repository,))
    asking.start()
    assert hanging.asked.wait(PATIENCE_S)
    watcher.stop()
    loading.result(PATIENCE_S)
    asking.join(PATIENCE_S)
    assert not asking.is_alive()
    assert not hanging.let_go.is_set()


def _load_and_be_told(repository: ModelRepository) -> None:
    # The second one, if the stop is finished before this thread has seen it.
    with pytest.raises(UnavailableError, match=r"stopping|version 2 is being loaded"):
        repository.load("sequential")


def test_reason_is_one_line_of_bounded_length(one_model: Path, runtime: FakeRuntime) -> None:
    folder = publish_copy(one_model, 2)
    content = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps(content | {f"a\nb{'x' * 5000}{number}": 1 for number in range(9)}))
    repository = ModelRepository(one_model, runtime)
    repository.load_all()
    reason = repository.get("sequential", 2).reason
    assert reason is not None
    assert reason.isprintable()
    assert len(reason) < 2_001


def test_title_and_tutorial_are_what_lies_in_the_folder(one_model: Path, repository: ModelRepository) -> None:
    assert repository.model_status("sequential").tutorial is None
    shutil.copy(MODELS / "sequential/tutorial.json", one_model / "sequential")
    folder = publish_copy(one_model, 2)
    content = json.loads((folder / "metadata.json").read_text()) | {"title": "Another title"}
    (folder / "metadata.json").write_text(json.dumps(content))
    repository.refresh()
    status = repository.model_status("sequential")
    assert status.title == "Another title"
    assert status.tutorial is not None
    assert status.tutorial.test_accuracy == 0.702
    withdraw(one_model, 2)
    repository.refresh()
    assert repository.model_status("sequential").title == "Sequential CNN"
