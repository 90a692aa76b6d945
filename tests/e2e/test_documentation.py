"""The ways in docs/tutorial.md and docs/own-models.md, executed: from a notebook or from photos to an answer."""

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2 as httpx
import keras
import numpy as np
import pytest
from PIL import Image

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.runtimes.golden import read_golden
from tests.conftest import MODELS, ROOT, SMALL_MODELS
from tests.e2e.server import clean_environment, running_server
from training.cifar10 import CLASS_NAMES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("curl") is None, reason="NO CURL: install Debian's package curl"),
]

TUTORIAL, OWN_MODELS = ROOT / "docs/tutorial.md", ROOT / "docs/own-models.md"
PHOTO = "rose.jpg"
CLASSES = {"daisy": (250, 250, 240), "rose": (200, 20, 60), "violet": (90, 40, 200)}
COPIES = 2
"""Each picture is in the test folder so often, with another brightness."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def notebook() -> dict[str, Any]:
    """The variables of a reader's notebook: a small network that has learnt its pictures by heart."""
    golden = read_golden(version_folder(MODELS, "sequential", 1) / "golden.npz")
    images = np.concatenate([golden.images // 8 * 8 + change for change in range(COPIES)]).astype(np.uint8)
    classes = np.tile(golden.labels, COPIES)
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images / 255, classes, epochs=10, batch_size=64, verbose=0)
    return {"model": model, "x_test": images, "y_test": classes[:, np.newaxis]}


def run(line: str, folder: Path, models: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a page in the project, with the reader's files and another models folder."""
    words = [str(folder / word) if (folder / word).exists() else word for word in shlex.split(line)]
    words = [f"file=@{folder / word.removeprefix('file=@')}" if word == f"file=@{PHOTO}" else word for word in words]
    command = [sys.executable if words[0] == "python" else words[0], *words[1:], *more]
    environment = clean_environment() | {"CIFAR10_MODELS": str(models)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def photos(folder: Path) -> None:
    """Write a dozen photos of each class, and one more of a rose."""
    source = np.random.default_rng(5)
    for label, colour in CLASSES.items():
        (folder / "photos" / label).mkdir(parents=True)
        for number in range(12):
            noise = source.integers(-40, 40, (90, 120, 3))
            picture = Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))
            picture.save(folder / "photos" / label / f"{number}.jpg")
    shutil.copy(folder / "photos" / "rose" / "0.jpg", folder / PHOTO)


def test_photos_become_a_service(tmp_path: Path) -> None:
    photos(tmp_path)
    models = tmp_path / "models"
    models.mkdir()
    fit_line, check_line, serve_line, curl_line = next(
        block for block in blocks(OWN_MODELS, "sh") if "docker compose up" in block
    ).splitlines()
    quick = fit_line.replace("mobilenetv2", "sequential").replace(
        "--image-size 96", "--image-size 48 --epochs 1 --precision float32"
    )
    assert quick != fit_line
    fitted = run(quick, tmp_path, models, "--models", str(models), "--checkpoints", str(tmp_path / "cache"))
    assert fitted.returncode == 0, fitted.stderr
    checked = run(check_line, tmp_path, models)
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "1 of 1 passed")
    assert serve_line == "docker compose up"
    with running_server(tmp_path / "log", CIFAR10_MODELS=str(models)) as server:
        answer = json.loads(run(curl_line.replace("localhost:8000", server.url), tmp_path, models).stdout)
        listed = httpx.get(f"{server.url}/models").json()
    assert (answer["model"], answer["version"]) == ("garden", 1)
    assert {entry["label"] for entry in answer["top"]} == set(CLASSES)
    assert listed["default_model"] == "garden"
    assert listed["models"][0]["versions"][0]["input_shape"] == [48, 48, 3]


def test_a_notebook_becomes_a_service(tmp_path: Path) -> None:
    variables = notebook()
    with contextlib.chdir(tmp_path):
        for code in blocks(TUTORIAL, "python"):
            exec(code, variables)  # noqa: S102  # the project's own page
    models = tmp_path / "models"
    models.mkdir()
    (models / "sequential").symlink_to(SMALL_MODELS / "sequential")
    import_line, check_line, serve_line, *curl_lines = "".join(blocks(TUTORIAL, "sh")).splitlines()
    imported = run(import_line, tmp_path, models, "--models", str(models), "--checkpoints", str(tmp_path / "cache"))
    assert imported.returncode == 0, imported.stderr
    metadata = read_metadata(version_folder(models, "my-cnn", 1))
    assert metadata.labels == list(CLASS_NAMES)
    assert metadata.imported is not None
    assert metadata.imported.scaling == "divide_by_255"
    checked = run(check_line, tmp_path, models)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert re.search(r"^my-cnn/1 +ok", checked.stdout, re.MULTILINE)
    assert serve_line == "python -m service"
    with running_server(tmp_path / "log", CIFAR10_MODELS=str(models)) as server:
        predicted, compared = (
            json.loads(run(line.replace("localhost:8000", server.url), tmp_path, models).stdout) for line in curl_lines
        )
    assert (predicted["model"], predicted["version"]) == ("my-cnn", 1)
    assert {answer["model"] for answer in compared["answers"]} == {"sequential", "my-cnn"}
    assert compared["agreement"]["of"] == 2
    assert compared["not_comparable"] == []
