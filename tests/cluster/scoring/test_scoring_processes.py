"""Scoring by the command as users run it: real processes and the real runtime, killed and started again."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from tests.cluster.scoring.conftest import rows_of
from tests.conftest import ROOT, SAMPLES, SMALL_MODELS, golden_class, newest_version
from tests.waiting import wait_until

pytest.importorskip("pyarrow", reason="needs pyarrow, from the extra score")

IMAGES = 1_200
PART_IMAGES = 32


def command(images: Path, output: Path, *options: str) -> list[str]:
    chosen = ["--model", "sequential", "--models", str(SMALL_MODELS), "--precision", "float32"]
    return [
        sys.executable,
        "-m",
        "cluster",
        "score",
        str(images),
        str(output),
        *chosen,
        "--part-images",
        str(PART_IMAGES),
        *options,
    ]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scoring") / "images"
    folder.mkdir()
    for number in range(IMAGES):
        shutil.copy(SAMPLES[number % len(SAMPLES)].file, folder / f"{number:05d}.png")
    return folder


def test_killed_run_goes_on(images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = subprocess.Popen(command(images, output, "--processes", "1"), cwd=ROOT)
    wait_until(lambda: len(list(output.glob("part-*"))) >= 3)
    process.kill()
    process.wait()
    before = {file: file.stat().st_mtime_ns for file in output.glob("part-*")}
    assert 3 <= len(before) < IMAGES // PART_IMAGES, "the run was over before it was killed"
    # Two processes this time, and no Ray: a package that may be missing.
    again = command(images, output, "--processes", "2")
    program = (
        "import sys; from cluster.__main__ import main\n"
        "if __name__ == '__main__':\n"
        "    code = main(sys.argv[1:]); assert 'ray' not in sys.modules; sys.exit(code)"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    ran = subprocess.run(
        [sys.executable, str(script), *again[3:]],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert f"{IMAGES:,} rows in {-(-IMAGES // PART_IMAGES)} parts" in ran.stdout
    rows = rows_of(output)
    assert Counter(row["key"] for row in rows) == Counter(file.name for file in images.iterdir())
    assert all(file.stat().st_mtime_ns == modified for file, modified in before.items())
    labels = read_metadata(version_folder(SMALL_MODELS, "sequential", newest_version("sequential"))).labels
    expected = [golden_class("sequential", SAMPLES[int(row["key"][:5]) % len(SAMPLES)]) for row in rows]
    assert [labels.index(row["label"]) for row in rows] == expected
