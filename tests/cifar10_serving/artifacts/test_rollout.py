import json
import os
from pathlib import Path

import pytest

from cifar10_serving.artifacts.documents import parse_document
from cifar10_serving.artifacts.rollout import Rollout, parse_version, read_rollout
from cifar10_serving.errors import RolloutError


def written(models: Path, content: str) -> Path:
    (models / "sequential").mkdir(exist_ok=True)
    (models / "sequential/serving.json").write_text(content)
    return models


def test_whole_file_is_read(tmp_path: Path) -> None:
    content = {
        "policy": "latest(3)",
        "labels": {"stable": 1, "canary": 2},
        "split": {"1": 90, "2": 10},
        "shadow": 3,
    }
    rollout = read_rollout(written(tmp_path, json.dumps(content)), "sequential")
    assert rollout is not None
    assert (rollout.policy, rollout.split, rollout.shadow) == ("latest(3)", {1: 90, 2: 10}, 3)
    assert rollout.named == {1, 2, 3}


def test_no_file_is_no_rollout_and_an_empty_one_says_nothing(tmp_path: Path) -> None:
    assert read_rollout(tmp_path, "sequential") is None
    assert read_rollout(written(tmp_path, "{}"), "sequential") == Rollout()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "Invalid JSON"),
        ("[]", "should be an object"),
        ('{"polcy": "all"}', "polcy: Extra inputs"),
        ('{"policy": "latest"}', 'policy: should be "latest(N)", "all", or a list'),
        ('{"policy": "latest(0)"}', 'policy: should be "latest(N)"'),
        ('{"policy": []}', 'policy: should be "latest(N)"'),
        ('{"policy": [true]}', 'policy: should be "latest(N)"'),
        ('{"labels": {"2nd": 2}}', "labels: "),
        ('{"labels": {"canary": "2"}}', "labels: "),
        ('{"labels": {"canary": 0}}', "labels: "),
        ('{"split": {"1": 100}}', "split names 1 versions, expected two"),
        ('{"split": {"1": 0, "2": 0}}', "a share of 0"),
        ('{"split": {"1": -1, "2": 2}}', "split: "),
        ('{"split": {"1": 90, "2": 10}, "shadow": 2}', "shadow is version 2, which answers"),
        ('{"labels": {"stable": 2}, "shadow": 2}', "shadow is version 2, which answers"),
        ('{"policy": [1, 3], "labels": {"canary": 2}}', "version 2 has a label, a share or is the shadow, and is not"),
    ],
)
def test_broken_or_contradictory_file_is_an_error_that_names_it(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(RolloutError) as caught:
        read_rollout(written(tmp_path, content), "sequential")
    assert str(caught.value).startswith("sequential/serving.json: ")
    assert words in str(caught.value)
    assert "docs/versions.md" in str(caught.value)


def test_unreadable_file_is_an_error_too(tmp_path: Path) -> None:
    (tmp_path / "sequential/serving.json").mkdir(parents=True)
    with pytest.raises(RolloutError, match=r"it can't be read: Is a directory"):
        read_rollout(tmp_path, "sequential")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_file_with_a_byte_order_mark_is_read(tmp_path: Path, encoding: str) -> None:
    written(tmp_path, "")
    (tmp_path / "sequential/serving.json").write_bytes('{"policy": "all", "split": {"1": 1, "2": 1}}'.encode(encoding))
    rollout = read_rollout(tmp_path, "sequential")
    assert rollout is not None
    assert (rollout.policy, rollout.split) == ("all", {1: 1, 2: 1})


def test_file_without_an_end_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "sequential").mkdir()
    file = tmp_path / "sequential/serving.json"
    os.mkfifo(file)
    with pytest.raises(RolloutError, match="is a FIFO, not a regular file"):
        read_rollout(tmp_path, "sequential")
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(RolloutError, match="out of the folder"):
        read_rollout(tmp_path, "sequential")
    file.unlink()
    file.write_text("{}")
    os.truncate(file, 2**40)
    with pytest.raises(RolloutError, match="more than 1,048,576"):
        read_rollout(tmp_path, "sequential")


def test_key_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RolloutError, match="the key 'stable' is repeated"):
        read_rollout(written(tmp_path, '{"labels": {"stable": 1, "stable": 2}}'), "sequential")


@pytest.mark.parametrize(("text", "version"), [("1", 1), ("42", 42), ("canary", "canary"), ("A-b_1", "A-b_1")])
def test_version_is_a_number_or_a_label(text: str, version: int | str) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1x", "٣", "a b", "a" * 64, "1" * 5000, "canary\n"])
def test_anything_else_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="a whole number from 1, or a label"):
        parse_version(text)


def test_generation_is_that_of_the_content() -> None:
    first = parse_document(b'{"labels": {"stable": 1, "canary": 2}}', Rollout)
    other_order = parse_document(b'{"split": null,\n "labels": {"canary": 2, "stable": 1}}', Rollout)
    assert first.generation == other_order.generation
    assert len(first.generation) == 12
    assert first.generation != parse_document(b'{"labels": {"stable": 2, "canary": 2}}', Rollout).generation
    assert Rollout().generation == parse_document(b"{}", Rollout).generation == "default"
