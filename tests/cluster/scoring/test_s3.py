"""Inputs and outputs in an object store: moto's S3 server."""

import importlib.util
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.scoring.conftest import Score
from tests.conftest import SAMPLES
from tests.e2e.server import free_port

MISSING = [name for name in ("pyarrow", "fsspec", "s3fs", "moto", "flask") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}: pip install pyarrow s3fs 'moto[server]'"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a file system of fsspec for a server of its own, with the bucket `data`."""
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port := free_port(), verbose=False)
    server.start()
    # The server's state is the process's: an earlier test may have left some.
    httpx.post(f"http://127.0.0.1:{port}/moto-api/reset").raise_for_status()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    files = fsspec.filesystem("s3", use_listings_cache=False)
    files.mkdir("data")
    yield files
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()


def rows_of(store: Any, folder: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    names = sorted(store.glob(f"{folder}/part-*.parquet"))
    return [row for name in names for row in pq.read_table(io.BytesIO(store.cat(name))).to_pylist()]


def test_folder_to_folder_and_again(score: Score, store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for sample in SAMPLES:
        store.pipe(f"data/images/deep/{sample.file.name}", sample.file.read_bytes())
    store.pipe({"data/images/a.png": b"", "data/images/b.jpg": b"no image", "data/images/c.txt": b"text"})
    options = ["s3://data/images", "s3://data/out", "--part-images", "4"]
    assert score(*options) == 3
    rows = rows_of(store, "data/out")
    assert [row["key"] for row in rows] == ["a.png", "b.jpg", *(f"deep/{sample.file.name}" for sample in SAMPLES)]
    assert [row["key"] for row in rows if row["error"]] == ["a.png", "b.jpg"]
    (first, *others) = sorted(store.glob("data/out/part-*.parquet"))
    kept = {name: store.info(name)["LastModified"] for name in others}
    store.rm(first)
    assert score(*options) == 3
    assert rows_of(store, "data/out") == rows
    assert {name: store.info(name)["LastModified"] for name in others} == kept
    store.pipe("data/images/0.png", SAMPLES[0].file.read_bytes())
    assert score(*options) == 2
    assert "the input has changed since the run began" in capsys.readouterr().err


def test_tars_and_parquet(score: Score, store: Any, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for sample in SAMPLES:
            tar.add(sample.file, sample.file.name)
    store.pipe("data/tars/00.tar", stream.getvalue())
    stream = io.BytesIO()
    paths = [f"s3://data/files/{sample.file.name}" for sample in SAMPLES] + ["s3://data/files/missing.png"]
    for sample, path in zip(SAMPLES, paths, strict=False):
        store.pipe(path, sample.file.read_bytes())
    pq.write_table(pa.table({"image": paths}), stream)
    store.pipe("data/rows/0.parquet", stream.getvalue())
    assert score("s3://data/tars", "s3://data/a") == 0
    assert score("s3://data/rows", "s3://data/b", "--column", "image", "--key-column", "image") == 3
    found = [{row["key"].rpartition("/")[2]: row["label"] for row in rows_of(store, f"data/{name}")} for name in "ab"]
    assert found[1].pop("missing.png") is None
    assert found[0] == found[1]
    assert len(found[0]) == len(SAMPLES)


def test_store_that_is_gone_ends_the_run(
    score: Score, store: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fsspec

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert score("s3://data/images", tmp_path / "out") == 1
    assert "can't list s3://data/images" in capsys.readouterr().err
