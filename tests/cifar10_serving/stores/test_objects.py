"""An object store on fsspec's file system in memory, and the errors of others."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cifar10_serving.errors import StoreError
from cifar10_serving.stores.address import parse_address
from cifar10_serving.stores.objects import ObjectStore

fsspec = pytest.importorskip("fsspec", reason="needs the extra s3 (fsspec)")
ADDRESS = parse_address("memory://bucket/models")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    store = ObjectStore(ADDRESS)
    for name in ("a/1/metadata.json", "a/1/plots/curve.svg"):
        (tmp_path / "file").write_text(name)
        store.upload(tmp_path / "file", name)
    yield store
    fsspec.filesystem("memory").store.clear()


def test_files_are_listed_read_and_downloaded(store: ObjectStore, tmp_path: Path) -> None:
    listing = store.listing()
    assert {name: stored.size_bytes for name, stored in listing.items()} == {
        "a/1/metadata.json": 17,
        "a/1/plots/curve.svg": 19,
    }
    assert store.read("a/1/metadata.json", 17) == b"a/1/metadata.json"
    received: list[int] = []
    store.download("a/1/plots/curve.svg", tmp_path / "curve", received.append)
    assert (tmp_path / "curve").read_text() == "a/1/plots/curve.svg"
    assert received[-1] == 19
    assert store.exists("a/1/metadata.json")
    assert not store.exists("a/2/metadata.json")


def test_token_changes_with_the_content(store: ObjectStore, tmp_path: Path) -> None:
    before = store.listing()
    assert store.listing() == before
    (tmp_path / "file").write_text("other content....")
    store.upload(tmp_path / "file", "a/1/metadata.json")
    after = store.listing()
    assert after["a/1/metadata.json"] != before["a/1/metadata.json"]
    assert after["a/1/plots/curve.svg"] == before["a/1/plots/curve.svg"]


def test_progress_may_end_a_download(store: ObjectStore, tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise StoreError("enough")

    with pytest.raises(StoreError, match="enough"):
        store.download("a/1/metadata.json", tmp_path / "x", stop)


def test_large_small_file_is_an_error(store: ObjectStore) -> None:
    with pytest.raises(StoreError, match="has more than 16 bytes"):
        store.read("a/1/metadata.json", 16)


def test_create_does_not_replace(store: ObjectStore) -> None:
    store.create("b/1/metadata.json", b"first")
    with pytest.raises(FileExistsError):
        store.create("b/1/metadata.json", b"second")
    assert store.read("b/1/metadata.json", 10) == b"first"


class FaultyFileSystem:
    """A file system whose every call raises an error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def _strip_protocol(self, url: str) -> str:
        return url.partition("://")[2]

    def invalidate_cache(self) -> None: ...

    def __getattr__(self, _: str) -> Any:
        def fail(*_: Any, **__: Any) -> None:
            raise self._error

        return fail


class NoCredentialsError(Exception):
    """Named like botocore's."""


class EndpointConnectionError(Exception):
    """Named like botocore's."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError("The specified bucket does not exist"), "memory://bucket/models: there is no such bucket"),
        (PermissionError("Access Denied"), r"permission denied \(Access Denied\)"),
        (
            NoCredentialsError("Unable to locate credentials"),
            "there are no credentials .*environment variables, a profile",
        ),
        (EndpointConnectionError("https://h/b?X-Amz-Signature=hush"), "can't be reached: https://h/b…"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "can't be reached"),
        (ValueError("odd\nanswer"), r"ValueError: odd\\nanswer"),
    ],
)
def test_errors_are_one_clear_line(error: Exception, message: str) -> None:
    store = ObjectStore(ADDRESS, FaultyFileSystem(error))
    with pytest.raises(StoreError, match=message) as raised:
        store.listing()
    assert "hush" not in str(raised.value)
    assert str(raised.value).isprintable()


def test_full_disk_is_no_error_of_the_store(tmp_path: Path) -> None:
    store = ObjectStore(ADDRESS, FaultyFileSystem(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        store.download("a", tmp_path / "a", lambda _: None)


def test_question_that_fails_is_no_answer() -> None:
    with pytest.raises(StoreError, match="permission denied"):
        ObjectStore(ADDRESS, FaultyFileSystem(PermissionError("403"))).exists("a")


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such bucket or folder"):
        ObjectStore(parse_address(f"file://{tmp_path}/nothing")).listing()
