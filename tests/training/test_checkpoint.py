import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar10_serving.artifacts.metadata import EpochResult
from tests.conftest import ROOT
from training.build import build, compile_for_training
from training.checkpoint import Checkpoint
from training.data import CIFAR_DIMENSIONS, Dataset
from training.errors import CheckpointError, DivergedError
from training.fit import fit
from training.recipes import Recipe, get_recipe

pytestmark = pytest.mark.slow
EPOCHS = 3
BATCH_SIZE = 32
RUN = """
import sys
from pathlib import Path
from tests.training.conftest import golden_dataset
from training.checkpoint import Checkpoint
from training.fit import fit
from training.progress import Progress
from training.recipes import get_recipe

class StaysInTheThirdEpoch(Progress):
    epochs_done = 0

    def advance(self, images):
        if self.epochs_done == 2:
            print("in the third epoch", flush=True)
            sys.stdin.read()

    def epoch(self, result, epochs):
        self.epochs_done = result.epoch

recipe = get_recipe("tutorial", "sequential").model_copy(update={"epochs": 3, "batch_size": 32})
fit(recipe, golden_dataset(), checkpoint=Checkpoint(Path(sys.argv[1]), recipe, "data"), progress=StaysInTheThirdEpoch())
"""


def short_recipe(**changes: int) -> Recipe:
    shorter = {"epochs": EPOCHS, "batch_size": BATCH_SIZE}
    return get_recipe("tutorial", "sequential").model_copy(update=shorter | changes)


def new_model(recipe: Recipe) -> Any:
    model = build(recipe, CIFAR_DIMENSIONS)
    compile_for_training(model, recipe, train_n=64)
    return model


def test_killed_run_resumes_and_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, small_cifar10: Dataset
) -> None:
    recipe = short_recipe()
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in the third epoch\n"
        process.kill()
    checkpoint = Checkpoint(tmp_path, recipe, "data")
    assert checkpoint.epochs_done() == 2

    resumed = fit(recipe, small_cifar10, checkpoint=checkpoint)
    uninterrupted = fit(recipe, small_cifar10)
    assert [entry.epoch for entry in resumed.history] == [1, 2, 3]
    for one, other in zip(resumed.model.get_weights(), uninterrupted.model.get_weights(), strict=True):
        assert np.array_equal(one, other)
    assert [entry.loss for entry in resumed.history] == [entry.loss for entry in uninterrupted.history]


def test_other_recipes_seeds_and_data_have_states_of_their_own(tmp_path: Path) -> None:
    checkpoints = [
        Checkpoint(tmp_path, short_recipe(), "data"),
        Checkpoint(tmp_path, short_recipe(seed=1), "data"),
        Checkpoint(tmp_path, short_recipe(), "other data"),
    ]
    assert len({checkpoint.file for checkpoint in checkpoints}) == 3


def test_finished_run_has_nothing_left_to_train_and_began_when_its_first_process_did(
    tmp_path: Path, small_cifar10: Dataset
) -> None:
    recipe = short_recipe(epochs=2)
    checkpoint = Checkpoint(tmp_path, recipe, "data")
    assert checkpoint.epochs_done() == 0
    first = fit(recipe, small_cifar10, checkpoint=checkpoint)
    assert checkpoint.epochs_done() == 2
    again = fit(recipe, small_cifar10, checkpoint=Checkpoint(tmp_path, recipe, "data"))
    assert again.history == first.history
    assert (again.started_at, again.wall_time_s) == (first.started_at, first.wall_time_s)
    checkpoint.discard()
    assert list(tmp_path.iterdir()) == []


def test_state_of_a_diverged_run_can_be_read_again(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, short_recipe(), "data")
    model = new_model(short_recipe())
    epoch = EpochResult(
        epoch=1, loss=float("nan"), accuracy=0.1, val_loss=float("inf"), val_accuracy=0.1, duration_s=1.0
    )
    checkpoint.save(model, [epoch])
    (restored,) = checkpoint.restore(model)
    assert np.isnan(restored.loss)
    assert restored.val_loss == float("inf")


def test_run_that_diverges_ends_with_a_clear_error(tmp_path: Path, small_cifar10: Dataset) -> None:
    recipe = get_recipe("tutorial", "sequential").model_copy(
        update={"optimizer": "sgd", "learning_rate": 1e30, "batch_size": 32}
    )
    with pytest.raises(DivergedError, match=r"the loss of epoch 1 is .*lower the learning rate with --learning-rate"):
        fit(recipe, small_cifar10, checkpoint=Checkpoint(tmp_path, recipe, "data"))
    assert list(tmp_path.iterdir()) == []


def test_damaged_state_is_a_clear_error(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, short_recipe(), "data")
    checkpoint.file.write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match=r"can't resume from .*delete it to train from the start"):
        checkpoint.restore(new_model(short_recipe()))


def test_folder_that_can_not_be_written_to_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    checkpoint = Checkpoint(tmp_path / "runs", short_recipe(), "data")
    with pytest.raises(CheckpointError, match="can't write"):
        checkpoint.require_writable()
    with pytest.raises(CheckpointError, match="can't write"):
        checkpoint.save(new_model(short_recipe()), [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="NOT TESTED: no /dev/full on this system")
def test_full_disk_leaves_the_state_that_was_there(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, short_recipe(), "data")
    model = new_model(short_recipe())
    checkpoint.save(model, [])
    before = checkpoint.file.read_bytes()
    checkpoint.file.with_suffix(f".{os.getpid()}.unfinished").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match="No space left on device"):
        checkpoint.save(model, [])
    assert checkpoint.file.read_bytes() == before
