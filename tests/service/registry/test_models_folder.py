import logging
import os
import shutil
from pathlib import Path

import pytest

from cifar10_serving.artifacts.files import MAX_ENTRIES
from service.errors import SettingsError
from service.registry.models_folder import MAX_VERSIONS, ModelsFolder
from tests.conftest import MODELS
from tests.version_copies import publish_copy, withdraw, write_rollout
from training.cifar10 import TUTORIAL_RESULTS


def test_only_versions_are_seen(one_model: Path) -> None:
    for name in (".staging-x", "backup", "02", "0"):
        (one_model / "sequential" / name).mkdir()
    (one_model / "sequential/7").write_text("a file")
    (one_model / ".hidden/1").mkdir(parents=True)
    (one_model / "empty").mkdir()
    (one_model / "README.md").write_text("a file")
    found = ModelsFolder(one_model).scan()
    assert {name: list(model.versions) for name, model in found.items()} == {"sequential": [1]}


def test_odd_names_are_passed_over_and_told_once(one_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("bad\nname", "x" * 65, "-x", "a b"):
        (one_model / name / "1").mkdir(parents=True)
    (one_model / os.fsdecode(b"bad\xff") / "1").mkdir(parents=True)
    (one_model / "sequential" / ("9" * 20)).mkdir()
    folder = ModelsFolder(one_model)
    for _ in range(2):
        assert {name: list(model.versions) for name, model in folder.scan().items()} == {"sequential": [1]}
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 5
    assert all(message.isprintable() for message in messages)


def test_linked_folders_of_models_and_versions_are_seen(one_model: Path) -> None:
    (one_model / "functional").symlink_to("sequential")
    (one_model / "sequential/2").symlink_to("1")
    found = ModelsFolder(one_model).scan()
    assert {name: sorted(model.versions) for name, model in found.items()} == {
        "functional": [1, 2],
        "sequential": [1, 2],
    }


def test_version_that_can_not_be_read_harms_no_other(one_model: Path) -> None:
    folder = ModelsFolder(one_model)
    before = folder.scan()["sequential"].versions[1]
    (one_model / "sequential/2").symlink_to("2")
    assert folder.scan()["sequential"].versions == {1: before, 2: ()}
    (one_model / "sequential/1").rename(one_model / ".away")
    (one_model / "sequential/1").symlink_to("1")
    assert folder.scan()["sequential"].versions == {1: before, 2: ()}


def test_folders_without_an_end_are_looked_at_in_part(one_model: Path) -> None:
    version = one_model / "sequential/1"
    (version / "loop").symlink_to(".")
    (version / "nowhere").symlink_to("nowhere")
    (one_model / "sequential/2").symlink_to("/")
    here = Path.cwd()
    try:
        os.chdir(version)
        for _ in range(300):
            os.mkdir("d")  # noqa: PTH102
            os.chdir("d")
    finally:
        os.chdir(here)
    found = ModelsFolder(one_model).scan()["sequential"]
    assert "loop" in {name for name, _, _ in found.versions[1]}
    assert len(found.versions[2]) <= MAX_ENTRIES + 1


def test_newest_versions_are_seen_of_very_many(one_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2, MAX_VERSIONS + 10):
        (one_model / f"sequential/{number}").mkdir()
    versions = ModelsFolder(one_model).scan()["sequential"].versions
    assert len(versions) == MAX_VERSIONS
    assert max(versions) == MAX_VERSIONS + 9
    assert "older ones are ignored" in caplog.text


def test_second_look_at_the_same_files_is_equal(one_model: Path) -> None:
    folder = ModelsFolder(one_model)
    assert folder.scan() == folder.scan()


def test_every_kind_of_change_is_seen(one_model: Path) -> None:
    folder = ModelsFolder(one_model)
    version = one_model / "sequential/1"

    def touch() -> None:
        os.utime(version / "golden.npz", ns=(1, 1))

    def grow() -> None:
        file = version / "assets.extra/tf_serving_warmup_requests"
        status = file.stat()
        file.write_bytes(file.read_bytes() + b"more")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    for change in (
        touch,
        grow,
        lambda: publish_copy(one_model, 2),
        lambda: withdraw(one_model, 2),
        lambda: write_rollout(one_model, policy="all"),
        lambda: write_rollout(one_model, policy=[1]),
        (one_model / "sequential/serving.json").unlink,
    ):
        before = folder.scan()
        change()
        assert folder.scan() != before


def test_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no such folder"):
        ModelsFolder(tmp_path / "nowhere").scan()


@pytest.mark.parametrize("is_back", [False, True])
def test_folder_that_is_moved_while_it_is_scanned_loses_no_model(
    one_model: Path, monkeypatch: pytest.MonkeyPatch, is_back: bool
) -> None:
    folder = ModelsFolder(one_model)
    before = folder.scan()
    list_folder = os.scandir

    def move_and_list(path: Path) -> object:
        if path != one_model / "sequential":
            return list_folder(path)
        away = one_model.rename(one_model.with_name("away"))
        try:
            return list_folder(path)
        finally:
            if is_back:
                away.rename(one_model)

    with monkeypatch.context() as changed:
        changed.setattr(os, "scandir", move_and_list)
        if is_back:
            assert folder.scan() == before
        else:
            with pytest.raises(SettingsError, match="there is no such folder"):
                folder.scan()
    if not is_back:
        one_model.with_name("away").rename(one_model)
    assert folder.scan() == before


def test_model_that_can_not_be_read_for_a_moment_counts_as_unchanged(
    one_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = ModelsFolder(one_model)
    before = folder.scan()
    model = one_model / "sequential"
    model.rename(one_model / ".away")
    model.symlink_to(model)
    with caplog.at_level(logging.WARNING):
        assert folder.scan() == folder.scan() == before
    assert [record.getMessage() for record in caplog.records] == [
        f"{model} can't be read; ignored: Too many levels of symbolic links"
    ]


@pytest.mark.parametrize("name", [b"a\nb", b"\x1b[31m", b"not-utf-8-\xff", "turned\u202e".encode()])
def test_folder_that_no_answer_could_name_is_passed_over_with_one_warning(
    one_model: Path, caplog: pytest.LogCaptureFixture, name: bytes
) -> None:
    (one_model / os.fsdecode(name) / "1").mkdir(parents=True)
    folder = ModelsFolder(one_model)
    assert list(folder.scan()) == list(folder.scan()) == ["sequential"]
    assert len([record for record in caplog.records if "ignored" in record.message]) == 1


def test_what_the_tutorial_reports_is_read_and_a_change_of_it_is_seen(one_model: Path) -> None:
    folder = ModelsFolder(one_model)
    before = folder.scan()
    assert folder.read_tutorial("sequential") is None
    shutil.copy(MODELS / "vgg16/tutorial.json", one_model / "sequential")
    assert folder.scan() != before
    assert folder.read_tutorial("sequential") == TUTORIAL_RESULTS["vgg16"]
