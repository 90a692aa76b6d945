import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.training.conftest import on_its_test_images
from training.checkpoint import Checkpoint
from training.data import Dataset
from training.fit import answers_of, fit
from training.recipes import Recipe, get_recipe

pytestmark = pytest.mark.slow
ON_JAX = """
import shutil
import sys
sys.modules |= {"tensorflow": None, "openvino": None}  # importing them is an ImportError
from pathlib import Path
import numpy as np
from tests.training.conftest import golden_dataset, on_its_test_images
from tests.training.test_backend import short_recipe
from training.checkpoint import Checkpoint
from training.fit import answers_of, fit
from training.progress import Progress

folder, data, recipe = Path(sys.argv[1]), on_its_test_images(golden_dataset()), short_recipe()

class CopiesTheFirstState(Progress):
    def epoch(self, result, epochs):
        if result.epoch == 1:
            shutil.copytree(folder / "finished", folder / "stopped")

trained = fit(recipe, data, checkpoint=Checkpoint(folder / "finished", recipe, ""), progress=CopiesTheFirstState())
np.save(folder / "answers.npy", answers_of(trained, data.test))
"""

COMPILE_QUICKLY = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""Most of the time of so short a run on JAX is compilation."""


def short_recipe() -> Recipe:
    changes = {"epochs": 2, "batch_size": 32, "precision": "float32", "warmup_epochs": 0.5}
    return get_recipe("tuned", "functional").model_copy(update=changes)


def run(backend: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": COMPILE_QUICKLY},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def trained_on_jax(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which JAX left the answers and the state of a run of two epochs, and its state after the first."""
    folder = tmp_path_factory.mktemp("jax")
    result = run("jax", "-c", ON_JAX, str(folder))
    assert result.returncode == 0, result.stderr
    return folder


def test_what_jax_trained_answers_the_same_on_tensorflow(trained_on_jax: Path, small_cifar10: Dataset) -> None:
    recipe = short_recipe()
    trained = fit(
        recipe, on_its_test_images(small_cifar10), checkpoint=Checkpoint(trained_on_jax / "finished", recipe, "")
    )
    np.testing.assert_allclose(
        answers_of(trained, small_cifar10.test), np.load(trained_on_jax / "answers.npy"), atol=1e-5
    )
    assert "jax" in trained.environment.versions
    assert "cores" in trained.environment.hardware


def test_run_that_jax_began_goes_on_on_tensorflow(trained_on_jax: Path, small_cifar10: Dataset) -> None:
    recipe = short_recipe()
    checkpoint = Checkpoint(trained_on_jax / "stopped", recipe, "")
    assert checkpoint.epochs_done() == 1
    first, second = fit(recipe, on_its_test_images(small_cifar10), checkpoint=checkpoint).history
    assert second.loss < first.loss


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("jax", "exporting on Keras' backend jax. Expected: the backend tensorflow"),
        ("numpy", "KERAS_BACKEND is numpy. Expected: tensorflow (the default) or jax"),
    ],
)
def test_backend_that_can_not_export_is_a_clear_error(backend: str, message: str) -> None:
    result = run(backend, "-m", "training", "fit", "functional", "--recipe", "tuned")
    assert result.returncode == 1
    assert f"error: {message}" in result.stderr
    assert "Traceback" not in result.stderr
