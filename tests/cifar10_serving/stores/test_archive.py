"""Archives from a real HTTP server with ETags and ranges."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cifar10_serving.errors import StoreError
from cifar10_serving.stores.archive import ArchiveStore
from tests.archive_server import ArchiveServer, archive_server, tar

CONTENT = {
    "models/a/1/metadata.json": b"{}",
    "models/a/1/plots/x.svg": b"<svg/>" * 1000,
    "models/a/serving.json": b"{}",
}
NAMES = {"a/1/metadata.json", "a/1/plots/x.svg", "a/serving.json"}


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with archive_server() as server:
        yield server


def packed(content: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_archive_is_unpacked_once(server: ArchiveServer, tmp_path: Path, kind: str) -> None:
    server.content = tar(CONTENT) if kind == "tar.gz" else packed(CONTENT)
    store = ArchiveStore(server.address(f"models.{kind}"), tmp_path)
    listing = store.listing()
    assert set(listing) == NAMES
    assert listing["a/1/plots/x.svg"].size_bytes == 6000
    assert store.listing() == listing
    assert server.statuses == [200, 304]
    assert store.read("a/1/metadata.json", 10) == b"{}"
    assert store.exists("a/1/metadata.json")
    assert not store.exists("a/2/metadata.json")
    store.download("a/1/plots/x.svg", tmp_path / "x", lambda _: None)
    assert (tmp_path / "x").read_bytes() == CONTENT["models/a/1/plots/x.svg"]


def test_new_archive_replaces_the_old_one(server: ArchiveServer, tmp_path: Path) -> None:
    server.content = tar(CONTENT)
    store = ArchiveStore(server.address(), tmp_path)
    before = store.listing()
    server.content = tar({"models/a/1/metadata.json": b"{}", "models/b/1/metadata.json": b"{ }"})
    after = store.listing()
    assert set(after) == {"a/1/metadata.json", "b/1/metadata.json"}
    assert after["a/1/metadata.json"] == before["a/1/metadata.json"]


def test_broken_download_is_resumed(server: ArchiveServer, tmp_path: Path) -> None:
    server.content = tar(CONTENT)
    server.breaks_after = 100
    with pytest.raises(StoreError):
        ArchiveStore(server.address(), tmp_path).listing()
    assert set(ArchiveStore(server.address(), tmp_path).listing()) == NAMES
    assert server.statuses == [200, 206]


def test_resume_of_a_changed_archive_starts_anew(server: ArchiveServer, tmp_path: Path) -> None:
    server.content = tar(CONTENT)
    server.breaks_after = 100
    with pytest.raises(StoreError):
        ArchiveStore(server.address(), tmp_path).listing()
    server.content = tar({"b/1/metadata.json": b"{}"})
    assert set(ArchiveStore(server.address(), tmp_path).listing()) == {"b/1/metadata.json"}


@pytest.mark.parametrize(
    "name", ["../evil/1/metadata.json", "a/1/../../../evil", "/etc/1/x", "a/1/x\\y", "README.md", "a/x/y"]
)
def test_other_names_are_passed_over(server: ArchiveServer, tmp_path: Path, name: str) -> None:
    server.content = packed({name: b"evil", "a/1/metadata.json": b"{}"})
    listing = ArchiveStore(server.address("models.zip"), tmp_path / "work").listing()
    assert "a/1/metadata.json" in listing
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.read_bytes() == b"evil"]


@pytest.mark.parametrize("content", [b"", b"no archive", tar(CONTENT)[:-50]])
def test_damaged_archive_is_an_error_and_fetched_again(server: ArchiveServer, tmp_path: Path, content: bytes) -> None:
    server.content = content
    store = ArchiveStore(server.address(), tmp_path)
    with pytest.raises(StoreError, match="can't be unpacked"):
        store.listing()
    server.content = tar(CONTENT)
    assert set(store.listing()) == NAMES


def test_slow_transfer_is_ended(server: ArchiveServer, tmp_path: Path) -> None:
    server.content = tar(CONTENT)
    times = iter(range(0, 10_000, 1000))
    store = ArchiveStore(server.address(), tmp_path, clock=lambda: next(times))
    with pytest.raises(StoreError, match="bytes a second"):
        store.listing()


def test_server_that_is_not_there(server: ArchiveServer, tmp_path: Path) -> None:
    server.content = tar(CONTENT)
    store = ArchiveStore(server.address(), tmp_path)
    store.listing()
    server.shutdown()
    server.server_close()
    with pytest.raises(StoreError, match="can't be reached"):
        store.listing()
