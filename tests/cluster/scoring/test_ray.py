"""Scoring with Ray Data, with two nodes on this machine; takes a minute, so only if CIFAR10_TEST_RAY is set."""

import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.scoring import command
from tests.cluster.scoring.conftest import rows_of
from tests.conftest import SAMPLES, SMALL_MODELS
from tests.waiting import wait_until

if not os.environ.get("CIFAR10_TEST_RAY"):
    pytest.skip("set CIFAR10_TEST_RAY=1 to run the tests with Ray", allow_module_level=True)
ray = pytest.importorskip("ray", reason="needs ray[data], from the extra cluster")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
IMAGES = 4_000
PART_IMAGES = 64
NODE_OPTIONS: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 100 * 2**20, "include_dashboard": False}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(IMAGES):
        shutil.copy(SAMPLES[number % len(SAMPLES)].file, folder / f"{number:05d}.png")
    (folder / "00007.png").write_text("no image")
    return folder


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args=NODE_OPTIONS)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_every_input_has_one_row_though_a_node_is_killed(cluster: Any, images: Path, tmp_path: Path) -> None:
    second = cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20)
    cluster.wait_for_nodes()
    output, killed = tmp_path / "out", threading.Event()

    def kill() -> None:
        wait_until(lambda: len(list(output.glob("part-*"))) >= 8)
        cluster.remove_node(second, allow_graceful=False)
        if len(list(output.glob("part-*"))) < IMAGES // PART_IMAGES:
            killed.set()

    killer = threading.Thread(target=kill)
    killer.start()
    options = ["--model", "sequential", "--models", str(SMALL_MODELS), "--part-images", str(PART_IMAGES)]
    code = command.main([str(images), str(output), *options, "--ray", cluster.address])
    killer.join()
    assert killed.is_set(), "the run was over before the node was killed"
    assert code == 3
    rows = rows_of(output)
    assert Counter(row["key"] for row in rows) == Counter(file.name for file in images.iterdir())
    assert [row["key"] for row in rows if row["error"]] == ["00007.png"]
    # The same command has nothing left to do, with Ray or without.
    before = sorted((file.name, file.stat().st_mtime_ns) for file in output.glob("part-*"))
    assert command.main([str(images), str(output), *options]) == 3
    assert sorted((file.name, file.stat().st_mtime_ns) for file in output.glob("part-*")) == before


def test_cluster_that_is_not_there(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "sequential", "--models", str(SMALL_MODELS), "--ray", "127.0.0.1:1"]
    assert command.main([str(images), str(tmp_path / "out"), *options]) == 1
    assert "there is no Ray cluster at 127.0.0.1:1" in capsys.readouterr().err
