"""Shared parts of the tests of batch scoring; most of them need pyarrow, from the extra `score`."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.scoring import command
from tests.conftest import SAMPLES, SMALL_MODELS
from tests.fakes import FakeRuntime

Score = Callable[..., int]


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch) -> Score:
    """Return the command with a fake runtime: `score(input, output, option…)` returns its exit code."""
    monkeypatch.setattr("cluster.scoring.run.open_runtime", lambda *_, **__: FakeRuntime())

    def run(source: object, output: object, *options: str, model: str = "sequential") -> int:
        chosen = ["--model", model, "--models", str(SMALL_MODELS), "--processes", "1"]
        return command.main([str(source), str(output), *chosen, *options])

    return run


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder with the shipped images in two folders, in all 10."""
    folder = tmp_path / "images"
    for number, sample in enumerate(SAMPLES):
        target = folder / ("even" if number % 2 == 0 else "odd/deep") / sample.file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.file, target)
    return folder


def rows_of(output: Path) -> list[dict[str, Any]]:
    """Return the rows of all parts, in order."""
    import pyarrow.parquet as pq

    return [row for file in sorted(output.glob("part-*.parquet")) for row in pq.read_table(file).to_pylist()]
