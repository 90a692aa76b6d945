"""A mirror of a store with faults, and the versions that answer from it."""

import json
import shutil
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from cifar10_serving.artifacts.layout import published_versions, verify, version_folder
from cifar10_serving.artifacts.layout import read_metadata as metadata_of
from cifar10_serving.errors import StoreError
from cifar10_serving.schemas import ReloadReport, VersionState
from service.errors import SettingsError
from service.registry import mirror_downloads
from service.registry.models_mirror import ModelsMirror, Selection, open_mirror
from service.registry.repository import ModelRepository
from service.settings import Settings
from tests.archive_server import archive_server, tar
from tests.conftest import MODELS
from tests.fake_store import FakeStore
from tests.fakes import FakeRuntime
from tests.version_copies import flip_a_bit, publish_copy, withdraw, write_rollout
from tests.waiting import PATIENCE_S, ManualClock

FILES = len(metadata_of(version_folder(MODELS, "sequential", 1)).files)
UNREACHABLE = StoreError("s3://bucket/models can't be reached: connection refused")
SOON_S = 10.0
"""Longer than the time after which a failure is tried again."""


@pytest.fixture
def store(one_model: Path) -> FakeStore:
    """A store with sequential version 1."""
    return FakeStore(one_model)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def open_one(store: FakeStore, clock: ManualClock, tmp_path: Path) -> Callable[..., ModelsMirror]:
    """Open a mirror of the store in one folder, as each process of a machine does."""

    def open_it(*, newest: int = 10, policy: str = "latest(1)", limit: float = 1.0) -> ModelsMirror:
        return ModelsMirror(
            store.address,
            tmp_path / "mirror",
            Selection(newest, policy),
            store=lambda: store,
            clock=clock,
            min_age_s=0,
            limit=limit,
        )

    return open_it


@pytest.fixture
def mirror(open_one: Callable[..., ModelsMirror]) -> ModelsMirror:
    return open_one()


@pytest.fixture
def repository(mirror: ModelsMirror) -> ModelRepository:
    repository = ModelRepository(mirror.folder, FakeRuntime(), mirror=mirror)
    repository.load_all()
    return repository


def update(mirror: ModelsMirror, *, asked: bool = False) -> None:
    """Follow the store to the end."""
    mirror.update(asked=asked)
    while mirror.has_more:
        mirror.update()


def look(repository: ModelRepository, clock: ManualClock, *, asked: bool = False) -> ReloadReport:
    """Look as the watcher does, some time after the last one."""
    clock.now_s += SOON_S
    return repository.refresh(retry_failed=asked)


def answers(repository: ModelRepository) -> int:
    return repository.find("sequential").version


def reason(repository: ModelRepository, version: int) -> str | None:
    entry = repository.get("sequential", version)
    assert entry.state is VersionState.FAILED
    return entry.reason


def test_store_is_mirrored_and_answers(store: FakeStore, mirror: ModelsMirror, repository: ModelRepository) -> None:
    assert repository.is_loaded
    assert answers(repository) == 1
    mirrored = version_folder(mirror.folder, "sequential", 1)
    verify(mirrored, metadata_of(mirrored))
    assert mirrored.stat().st_mode & 0o777 == 0o755
    assert sorted(mirrored.rglob("*.svg"))
    assert mirror.last_success_s is not None
    assert store.taken_calls().count("list") == 1


def test_look_without_changes_is_one_listing(store: FakeStore, clock: ManualClock, repository: ModelRepository) -> None:
    store.taken_calls()
    generation = repository.generation
    for _ in range(3):
        look(repository, clock)
    assert store.taken_calls() == ["list"] * 3
    assert repository.generation == generation


def test_new_version_answers_and_a_removed_one_goes_after_two_looks(
    store: FakeStore, clock: ManualClock, repository: ModelRepository
) -> None:
    publish_copy(store.folder, 2)
    assert [entry.version for entry in look(repository, clock).loaded] == [2]
    assert answers(repository) == 2
    withdraw(store.folder, 2)
    store.taken_calls()
    look(repository, clock)
    assert answers(repository) == 2
    assert store.taken_calls() == ["list"]
    look(repository, clock)
    assert answers(repository) == 1
    assert store.taken_calls() == ["list", "ask sequential/2/metadata.json"]


def test_asked_look_removes_at_once(store: FakeStore, clock: ManualClock, repository: ModelRepository) -> None:
    publish_copy(store.folder, 2)
    look(repository, clock)
    withdraw(store.folder, 2)
    assert [entry.version for entry in look(repository, clock, asked=True).unloaded] == [2]


def test_unreachable_store_keeps_what_serves_and_is_followed_again(
    store: FakeStore, clock: ManualClock, repository: ModelRepository
) -> None:
    store.fail("list", UNREACHABLE, PermissionError(13, "denied"), FileNotFoundError(2, "gone"))
    withdraw(store.folder, 1)
    publish_copy(store.folder, 2)
    assert look(repository, clock).problems == [str(UNREACHABLE)]
    for _ in range(2):
        assert look(repository, clock).problems
        assert answers(repository) == 1
    assert look(repository, clock).problems == []
    assert answers(repository) == 2


def test_unexpected_error_of_a_package_is_a_problem(
    store: FakeStore, clock: ManualClock, repository: ModelRepository
) -> None:
    store.fail("list", ValueError("odd"))
    assert look(repository, clock).problems == ["s3://bucket/models: ValueError: odd."]
    assert answers(repository) == 1


def test_start_without_the_store_serves_what_was_mirrored(
    store: FakeStore, mirror: ModelsMirror, open_one: Callable[..., ModelsMirror], clock: ManualClock
) -> None:
    update(mirror)
    store.fail("list", UNREACHABLE)
    clock.now_s += SOON_S
    second = ModelRepository(mirror.folder, FakeRuntime(), mirror=open_one())
    second.load_all()
    assert answers(second) == 1


def test_start_without_the_store_and_a_mirror_says_why_it_is_not_ready(
    store: FakeStore, mirror: ModelsMirror, clock: ManualClock
) -> None:
    store.fail("list", UNREACHABLE)
    repository = ModelRepository(mirror.folder, FakeRuntime(), "sequential", mirror=mirror)
    repository.load_all()
    assert "no published version in s3://bucket/models (s3://bucket/models can't be reached" in str(
        repository.not_ready_reason
    )
    look(repository, clock)
    assert repository.not_ready_reason is None


def test_empty_listing_removes_nothing(
    store: FakeStore, clock: ManualClock, repository: ModelRepository, tmp_path: Path
) -> None:
    store.folder = tmp_path / "empty"
    store.folder.mkdir()
    for _ in range(4):
        assert "lists no version" in look(repository, clock, asked=True).problems[0]
    assert answers(repository) == 1


def test_incomplete_listing_removes_nothing(store: FakeStore, clock: ManualClock, repository: ModelRepository) -> None:
    publish_copy(store.folder, 2)
    write_rollout(store.folder, labels={"stable": 1})
    look(repository, clock)
    assert answers(repository) == 1
    store.unlisted = {"sequential/1/metadata.json", "sequential/serving.json"}
    for _ in range(4):
        look(repository, clock)
        assert answers(repository) == 1
    assert "the listing is not complete" in look(repository, clock).problems[0]
    store.unlisted = set()
    assert look(repository, clock).problems == []


def test_store_that_answers_no_question_removes_nothing(
    store: FakeStore, clock: ManualClock, repository: ModelRepository
) -> None:
    publish_copy(store.folder, 2)
    look(repository, clock)
    withdraw(store.folder, 2)
    look(repository, clock)
    store.fail("sequential/2/metadata.json", StoreError("permission denied"))
    assert "permission denied" in look(repository, clock).problems[0]
    assert answers(repository) == 2
    look(repository, clock)
    assert answers(repository) == 1


def test_wrong_hash_is_a_failed_version_until_the_store_has_another(
    store: FakeStore, clock: ManualClock, mirror: ModelsMirror, repository: ModelRepository
) -> None:
    folder = publish_copy(store.folder, 2, broken=True)
    report = look(repository, clock)
    assert [entry.version for entry in report.failed] == [2]
    assert "s3://bucket/models/sequential/2/saved_model.pb is not what was published: SHA-256" in str(
        reason(repository, 2)
    )
    assert answers(repository) == 1
    assert published_versions(mirror.folder, "sequential") == [1]
    store.taken_calls()
    assert look(repository, clock).failed == []
    assert store.taken_calls() == ["list"]
    assert [entry.version for entry in look(repository, clock, asked=True).failed] == [2]
    flip_a_bit(folder / "saved_model.pb")
    store.taken_calls()
    look(repository, clock)
    assert answers(repository) == 2
    assert "get sequential/2/golden.npz" not in store.taken_calls()  # it was there with the right hash


@pytest.mark.parametrize("damage", ["missing", "short", "outside", "no metadata"])
def test_incomplete_version_costs_no_download(
    store: FakeStore, clock: ManualClock, repository: ModelRepository, damage: str
) -> None:
    folder = publish_copy(store.folder, 2)
    store.taken_calls()
    if damage == "missing":
        (folder / "golden.npz").unlink()
        expected = "golden.npz is not there, or not yet"
    elif damage == "short":
        (folder / "golden.npz").write_bytes(b"short")
        expected = "golden.npz is not what was published: 5 bytes"
    elif damage == "outside":
        document = json.loads((folder / "metadata.json").read_text())
        document["files"]["../../evil"] = document["files"]["golden.npz"]
        (folder / "metadata.json").write_text(json.dumps(document))
        expected = "should be the path of a file inside the version's folder"
    else:
        (folder / "metadata.json").write_text("{}")
        expected = "sequential/2/metadata.json: "
    look(repository, clock)
    assert expected in str(reason(repository, 2))
    assert not [call for call in store.taken_calls() if call.startswith("get")]


def test_version_without_metadata_is_not_there_yet(
    store: FakeStore, clock: ManualClock, repository: ModelRepository
) -> None:
    folder = publish_copy(store.folder, 2)
    content = (folder / "metadata.json").read_bytes()
    (folder / "metadata.json").unlink()
    look(repository, clock)
    assert [entry.version for entry in repository.model_status("sequential").versions] == [1]
    (folder / "metadata.json").write_bytes(content)
    look(repository, clock)
    assert answers(repository) == 2


def test_interrupted_download_goes_on_where_it_was(
    store: FakeStore, clock: ManualClock, repository: ModelRepository
) -> None:
    publish_copy(store.folder, 2)
    names = list(metadata_of(version_folder(store.folder, "sequential", 2)).files)
    store.fail(f"sequential/2/{names[-1]}", UNREACHABLE)
    look(repository, clock)
    assert reason(repository, 2) == str(UNREACHABLE)
    store.taken_calls()
    look(repository, clock)
    assert answers(repository) == 2
    assert [call for call in store.taken_calls() if call.startswith("get")] == [f"get sequential/2/{names[-1]}"]


def test_truncated_download_is_repeated(store: FakeStore, clock: ManualClock, repository: ModelRepository) -> None:
    def truncate(target: Path) -> None:
        target.write_bytes(b"half")

    publish_copy(store.folder, 2)
    store.fail("sequential/2/saved_model.pb", truncate)
    look(repository, clock)
    assert answers(repository) == 2


def test_hanging_store_does_not_hang_the_watcher(
    store: FakeStore, clock: ManualClock, open_one: Callable[..., ModelsMirror]
) -> None:
    released = threading.Event()

    def hang(_: Path) -> None:
        assert released.wait(PATIENCE_S)

    mirror = open_one(limit=0.001)
    repository = ModelRepository(mirror.folder, FakeRuntime(), mirror=mirror)
    repository.load_all()
    publish_copy(store.folder, 2)
    store.fail("list", *[hang] * 4)
    store.fail("sequential/2/saved_model.pb", hang)
    try:
        for _ in range(4):
            assert "does not answer: no response within" in look(repository, clock).problems[0]
        assert "it still does not respond" in look(repository, clock).problems[0]
        assert answers(repository) == 1
    finally:
        released.set()
    while look(repository, clock).problems:
        pass
    clock.now_s += 100
    look(repository, clock)
    assert answers(repository) == 2


def test_hanging_file_holds_up_only_its_version(
    store: FakeStore, clock: ManualClock, open_one: Callable[..., ModelsMirror]
) -> None:
    released = threading.Event()

    def hang(_: Path) -> None:
        released.wait(PATIENCE_S)

    mirror = open_one(limit=0.001)
    repository = ModelRepository(mirror.folder, FakeRuntime(), mirror=mirror)
    shutil.copytree(MODELS / "functional", store.folder / "functional")
    publish_copy(store.folder, 2)
    store.fail("sequential/2/golden.npz", hang)
    repository.load_all()
    try:
        assert "no response within" in str(reason(repository, 2))
        assert answers(repository) == 1
        assert repository.find("functional").version == 3
    finally:
        released.set()
    clock.now_s += 100
    look(repository, clock)
    assert answers(repository) == 2


def test_stop_abandons_a_download(store: FakeStore, mirror: ModelsMirror) -> None:
    released, reached = threading.Event(), threading.Event()

    def hang(_: Path) -> None:
        reached.set()
        released.wait(PATIENCE_S)

    store.fail("sequential/1/saved_model.pb", hang)
    repository = ModelRepository(mirror.folder, FakeRuntime(), mirror=mirror)
    loading = threading.Thread(target=repository.load_all)
    loading.start()
    assert reached.wait(PATIENCE_S)
    repository.stop_loading()
    loading.join(PATIENCE_S)
    assert not loading.is_alive()
    assert not released.is_set()
    released.set()
    assert repository.not_ready_reason == "models are being loaded"


def test_file_that_goes_while_it_is_read_is_tried_again(
    store: FakeStore, clock: ManualClock, repository: ModelRepository
) -> None:
    publish_copy(store.folder, 2)
    store.fail("sequential/2/golden.npz", FileNotFoundError(2, "gone"))
    look(repository, clock)
    assert "a file that was listed is gone" in str(reason(repository, 2))
    withdraw(store.folder, 2)
    look(repository, clock)
    assert [entry.version for entry in repository.model_status("sequential").versions] == [1]


def test_store_that_goes_on_failing_does_not_keep_the_watcher(store: FakeStore, tmp_path: Path) -> None:
    for model in ("functional", "subclassing"):
        shutil.copytree(MODELS / model, store.folder / model)
        store.fail(f"{model}/3/golden.npz", *[UNREACHABLE] * 3)
    times = count(0.0, SOON_S)
    mirror = ModelsMirror(
        store.address,
        tmp_path / "mirror",
        Selection(1, "latest(1)"),
        store=lambda: store,
        clock=lambda: next(times),
        min_age_s=0,
    )
    repository = ModelRepository(mirror.folder, FakeRuntime(), mirror=mirror)
    repository.load_all()
    assert repository.find("sequential").version == 1
    failing = [repository.get(model, 3) for model in ("functional", "subclassing")]
    assert [entry.state for entry in failing] == [VersionState.FAILED] * 2
    for _ in range(8):
        repository.refresh()
    assert [repository.find(model).version for model in ("functional", "subclassing")] == [3, 3]


def test_no_wrong_version_answers_while_a_named_one_is_missing(
    store: FakeStore, clock: ManualClock, repository: ModelRepository
) -> None:
    publish_copy(store.folder, 2)
    publish_copy(store.folder, 3)
    write_rollout(store.folder, labels={"stable": 2})
    store.fail("sequential/2/saved_model.pb", UNREACHABLE)
    look(repository, clock)
    assert answers(repository) == 1
    look(repository, clock)
    assert answers(repository) == 2
    assert repository.model_status("sequential").labels == {"stable": 2}


def test_model_whose_rollout_can_not_be_read_does_not_appear(store: FakeStore, mirror: ModelsMirror) -> None:
    write_rollout(store.folder, labels={"stable": 1})
    publish_copy(store.folder, 2)
    store.fail("sequential/serving.json", UNREACHABLE)
    update(mirror)
    assert published_versions(mirror.folder, "sequential") == []
    assert mirror.problems == [str(UNREACHABLE)]


def test_rollout_follows_the_store(store: FakeStore, clock: ManualClock, repository: ModelRepository) -> None:
    publish_copy(store.folder, 2)
    look(repository, clock)
    file = write_rollout(store.folder, labels={"stable": 1})
    look(repository, clock)
    assert answers(repository) == 1
    file.write_text("{")
    assert "serving.json" in look(repository, clock).problems[0]
    assert answers(repository) == 1
    file.unlink()
    look(repository, clock)
    look(repository, clock)
    assert answers(repository) == 2


def test_changed_metadata_replaces_the_version(
    store: FakeStore, clock: ManualClock, mirror: ModelsMirror, repository: ModelRepository
) -> None:
    file = store.folder / "sequential/1/metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"title": "Another title"}))
    store.fail("sequential/1/golden.npz", UNREACHABLE)
    assert look(repository, clock).problems == [str(UNREACHABLE)]
    assert repository.model_status("sequential").title != "Another title"
    look(repository, clock)
    assert repository.model_status("sequential").title == "Another title"
    assert metadata_of(version_folder(mirror.folder, "sequential", 1)).title == "Another title"


def test_full_disk_fails_the_version_and_keeps_nothing_of_it(
    store: FakeStore,
    clock: ManualClock,
    mirror: ModelsMirror,
    repository: ModelRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish_copy(store.folder, 2)
    usage = shutil.disk_usage(store.folder)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: usage._replace(free=mirror_downloads.RESERVE_BYTES))
        look(repository, clock)
    assert "the disk is full: sequential/2 needs" in str(reason(repository, 2))
    assert not (mirror.folder / ".mirror/incoming/sequential/2").exists()
    look(repository, clock)
    assert answers(repository) == 2


def test_damaged_copy_is_repaired_when_asked(
    store: FakeStore, clock: ManualClock, mirror: ModelsMirror, repository: ModelRepository
) -> None:
    flip_a_bit(version_folder(mirror.folder, "sequential", 1) / "saved_model.pb")
    look(repository, clock, asked=True)
    mirrored = version_folder(mirror.folder, "sequential", 1)
    verify(mirrored, metadata_of(mirrored))
    assert answers(repository) == 1


def test_lost_state_and_lost_folder(store: FakeStore, clock: ManualClock, mirror: ModelsMirror) -> None:
    update(mirror)
    (mirror.folder / ".mirror/state.json").write_text("{")
    store.taken_calls()
    clock.now_s += SOON_S
    update(mirror)
    assert store.taken_calls() == ["list", "read sequential/1/metadata.json"]
    shutil.rmtree(mirror.folder)
    clock.now_s += SOON_S
    update(mirror)
    assert published_versions(mirror.folder, "sequential") == [1]


def test_processes_share_a_mirror(
    store: FakeStore, clock: ManualClock, open_one: Callable[..., ModelsMirror], tmp_path: Path
) -> None:
    for model in ("functional", "subclassing"):
        shutil.copytree(MODELS / model, store.folder / model)
    mirrors = [open_one(), open_one(), open_one()]
    threads = [threading.Thread(target=update, args=(mirror,)) for mirror in mirrors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    downloads = [call for call in store.taken_calls() if call.startswith("get")]
    files = sum(len(metadata_of(folder).files) for folder in store.folder.glob("*/[0-9]*"))
    assert len(downloads) == len(set(downloads)) == files
    assert [published_versions(mirrors[0].folder, name) for name in ("functional", "subclassing")] == [[1, 2, 3]] * 2
    publish_copy(store.folder, 2, broken=True)
    clock.now_s += SOON_S
    for mirror in mirrors:
        mirror.update()
        assert list(mirror.failed()["sequential"]) == [2]


def test_look_of_another_process_counts(store: FakeStore, clock: ManualClock, tmp_path: Path) -> None:
    first, second = (
        ModelsMirror(
            store.address,
            tmp_path / "mirror",
            Selection(10, "all"),
            store=lambda: store,
            clock=clock,
            min_age_s=1.0,
        )
        for _ in range(2)
    )
    update(first)
    store.taken_calls()
    second.update()
    assert store.taken_calls() == []
    second.update(asked=True)
    clock.now_s += 1
    first.update()
    assert store.taken_calls() == ["list", "list"]


def test_archive_is_followed(store: FakeStore, tmp_path: Path) -> None:
    def packed() -> bytes:
        files = [file for file in store.folder.rglob("*") if file.is_file()]
        return tar({file.relative_to(store.folder.parent).as_posix(): file.read_bytes() for file in files})

    with archive_server() as server:
        server.content = packed()
        mirror = ModelsMirror(server.address(), tmp_path / "mirror", Selection(10, "latest(1)"), min_age_s=0)
        repository = ModelRepository(mirror.folder, FakeRuntime(), mirror=mirror)
        repository.load_all()
        assert answers(repository) == 1
        publish_copy(store.folder, 2)
        write_rollout(store.folder, labels={"stable": 1, "canary": 2})
        server.content = packed()
        repository.refresh()
        assert repository.find("sequential", "canary").version == 2
        repository.refresh()
        assert server.statuses == [200, 200, 304]
        withdraw(store.folder, 2)
        (store.folder / "sequential/serving.json").unlink()
        server.content = packed()
        repository.refresh(retry_failed=True)
        assert [entry.version for entry in repository.model_status("sequential").versions] == [1]


def test_only_the_newest_and_named_versions_are_mirrored(
    store: FakeStore, clock: ManualClock, open_one: Callable[..., ModelsMirror]
) -> None:
    for version in (2, 3, 4):
        publish_copy(store.folder, version)
    write_rollout(store.folder, labels={"stable": 1})
    mirror = open_one(newest=2)
    update(mirror)
    assert published_versions(mirror.folder, "sequential") == [1, 3, 4]
    publish_copy(store.folder, 5, broken=True)
    clock.now_s += SOON_S
    update(mirror)
    assert published_versions(mirror.folder, "sequential") == [1, 3, 4]
    publish_copy(store.folder, 6)
    clock.now_s += SOON_S
    update(mirror)
    withdraw(store.folder, 5)
    for _ in range(2):
        clock.now_s += SOON_S
        update(mirror)
    assert published_versions(mirror.folder, "sequential") == [1, 4, 6]
    write_rollout(store.folder, policy="all")
    clock.now_s += SOON_S
    update(mirror)
    assert published_versions(mirror.folder, "sequential") == [1, 2, 3, 4, 6]


def test_odd_names_are_passed_over(store: FakeStore, mirror: ModelsMirror) -> None:
    for name in ("a b/1/metadata.json", ".hidden/1/metadata.json", "sequential/x/metadata.json", "README.md"):
        (store.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (store.folder / name).write_text("{}")
    update(mirror)
    assert sorted(entry.name for entry in mirror.folder.iterdir()) == [".mirror", "sequential"]
    assert mirror.problems == []


def test_folder_that_can_not_be_written_to_is_an_error_of_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="CIFAR10_MODELS_MIRROR_FOLDER: can't write to"):
        ModelsMirror(
            FakeStore(tmp_path).address, tmp_path / "file/x", Selection(1, "all"), store=lambda: FakeStore(tmp_path)
        )


def test_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    settings = Settings(models="gs://bucket/models", models_mirror_folder=tmp_path)
    with pytest.raises(SettingsError, match=r"gs:// needs the package gcsfs.*extra 'gcs'.*install gcsfs"):
        open_mirror(settings)


def test_plain_folder_has_no_mirror(tmp_path: Path) -> None:
    assert open_mirror(Settings(models=tmp_path)) is None
