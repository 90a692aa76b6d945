"""`python -m service check`, as operators run it, with the real runtime."""

import subprocess
import sys
from pathlib import Path

import pytest

from cifar10_serving.artifacts.layout import version_folder
from tests.conftest import ROOT
from tests.e2e.server import clean_environment
from tests.version_copies import flip_a_bit, publish_copy


def check(*arguments: str | Path, module: str = "service") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False)


def test_published_versions_pass_and_broken_ones_are_named(one_model: Path) -> None:
    passed = check("check", "--models", one_model)
    assert (passed.returncode, passed.stderr) == (0, "")
    assert passed.stdout.startswith("openvino ")
    assert passed.stdout.endswith("1 of 1 passed\n")
    publish_copy(one_model, 2)
    flip_a_bit(version_folder(one_model, "sequential", 2) / "saved_model.pb")
    failed = check("check", "--models", one_model)
    assert failed.returncode == 1
    *_, reason, total = failed.stdout.splitlines()
    assert reason.startswith("sequential/2: ")
    assert "saved_model.pb is not what was published" in reason
    assert total == "1 of 2 passed"


def test_store_is_mirrored_and_checked(one_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="needs the extra s3 (fsspec)")
    publish_copy(one_model, 2)
    flip_a_bit(version_folder(one_model, "sequential", 2) / "saved_model.pb")
    store = ("--models", f"file://{one_model}", "--models-mirror-folder", tmp_path)
    failed = check("check", *store)
    assert failed.returncode == 1
    assert "1 of 1 passed" in failed.stdout
    assert "sequential/2: file://" in failed.stdout
    assert check("check", "--models", f"file://{one_model}/nothing", *store[2:]).returncode == 2


@pytest.mark.parametrize("is_there", [True, False])
def test_nothing_to_check_is_an_error(tmp_path: Path, is_there: bool) -> None:
    result = check("check", "--models", tmp_path if is_there else tmp_path / "nowhere")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: CIFAR10_MODELS = ")
    assert len(result.stderr.splitlines()) == 1


def test_training_verifies_one_folder_in_the_same_way(one_model: Path) -> None:
    folder = version_folder(one_model, "sequential", 1)
    passed = check("verify", folder, module="training")
    assert (passed.returncode, passed.stderr) == (0, "")
    flip_a_bit(folder / "golden.npz")
    failed = check("verify", folder, module="training")
    assert failed.returncode == 1
    assert "golden.npz is not what was published" in failed.stdout
