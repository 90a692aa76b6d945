from pathlib import Path

import numpy as np
import pytest

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.runtimes.golden import GoldenAnswers, read_golden
from cifar10_serving.runtimes.verification import VersionCheck, check_published, check_version, report_lines
from tests.fakes import FakeRuntime
from tests.version_copies import flip_a_bit, publish_relabelled, rewrite_checksums, write_rollout
from training.cifar10 import CLASS_NAMES


def results(models: Path) -> dict[str, VersionCheck]:
    return {result.name: result for result in check_published(models, FakeRuntime())}


def test_every_version_is_checked_whatever_the_policy(one_model: Path) -> None:
    publish_relabelled(one_model, "leaves", [f"leaf {number}" for number in range(10)], accuracy=None)
    write_rollout(one_model, policy=[1])
    (one_model / ".hidden" / "1").mkdir(parents=True)
    (one_model / "not a name" / "1").mkdir(parents=True)
    found = results(one_model)
    assert set(found) == {"sequential/1", "leaves/1"}
    assert all(result.problem is None and result.difference == 0 for result in found.values())
    assert found["sequential/1"].test_accuracy == 0.7063
    assert found["leaves/1"].test_accuracy is None
    *_, total = lines = report_lines(list(found.values()))
    assert total == "2 of 2 passed"
    (row,) = [line for line in lines if line.startswith("leaves/1 ")]
    assert row.split()[:4] == ["leaves/1", "ok", "10", "32x32"]
    assert "not measured" in row


def break_file(folder: Path) -> None:
    flip_a_bit(folder / "saved_model.pb")


def break_metadata(folder: Path) -> None:
    (folder / "metadata.json").write_text("{")


def break_golden(folder: Path) -> None:
    golden = read_golden(folder / "golden.npz")
    GoldenAnswers(golden.images, golden.labels, np.roll(golden.probabilities, 1, axis=1)).save(folder / "golden.npz")
    rewrite_checksums(folder)


def break_network(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes(b"another network")
    rewrite_checksums(folder)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (break_file, "saved_model.pb is not what was published"),
        (break_metadata, "Invalid JSON"),
        (break_golden, "answers its golden images up to"),
        (break_network, "holds no model of the clone"),
    ],
)
def test_what_the_service_would_not_load_fails_with_its_reason(one_model: Path, damage: object, reason: str) -> None:
    publish_relabelled(one_model, "whole", list(CLASS_NAMES))
    assert callable(damage)
    damage(version_folder(one_model, "sequential", 1))
    found = results(one_model)
    assert found["whole/1"].problem is None
    assert reason in (found["sequential/1"].problem or "")
    *_, said, total = report_lines(list(found.values()))
    assert said.startswith("sequential/1: ")
    assert reason in said
    assert total == "1 of 2 passed"


def test_serving_json_that_names_no_version_fails(one_model: Path) -> None:
    write_rollout(one_model, labels={"stable": 7})
    assert "names version 7, which is not published" in (results(one_model)["sequential/serving.json"].problem or "")


def test_one_folder_is_checked_by_its_path(one_model: Path, tmp_path: Path) -> None:
    assert check_version(version_folder(one_model, "sequential", 1), FakeRuntime()).problem is None
    assert "is not there" in (check_version(tmp_path / "nothing" / "1", FakeRuntime()).problem or "")
