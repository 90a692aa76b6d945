import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar10_serving.artifacts.layout import read_metadata, verify, version_folder
from cifar10_serving.errors import ArtifactCorruptError, PublishError, StoreError
from cifar10_serving.stores.address import parse_address
from cifar10_serving.stores.objects import ObjectStore
from cifar10_serving.stores.publishing import Outcome, publish_to
from tests.conftest import MODELS
from tests.version_copies import flip_a_bit, publish_copy

VERSION = version_folder(MODELS, "sequential", 1)
STORE = "memory://bucket/models"


def another(folder: Path) -> Path:
    """Change a version's metadata."""
    file = folder / "metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"title": "Another"}))
    return folder


class TestFolder:
    def test_version_is_copied_and_the_same_again_does_nothing(self, tmp_path: Path) -> None:
        assert publish_to(str(tmp_path), VERSION)[1] is Outcome.PUBLISHED
        copy = version_folder(tmp_path, "sequential", 1)
        verify(copy, read_metadata(copy))
        before = (copy / "metadata.json").stat()
        assert publish_to(f"file://{tmp_path}", VERSION)[1] is Outcome.THERE
        assert (copy / "metadata.json").stat() == before
        assert [entry.name for entry in (tmp_path / "sequential").iterdir()] == ["1"]

    def test_another_version_is_rejected(self, tmp_path: Path, one_model: Path) -> None:
        publish_to(str(tmp_path), VERSION)
        with pytest.raises(PublishError, match="is another version"):
            publish_to(str(tmp_path), another(version_folder(one_model, "sequential", 1)))

    def test_damaged_version_is_rejected(self, tmp_path: Path, one_model: Path) -> None:
        flip_a_bit(version_folder(one_model, "sequential", 1) / "saved_model.pb")
        with pytest.raises(ArtifactCorruptError):
            publish_to(str(tmp_path / "target"), version_folder(one_model, "sequential", 1))
        assert not (tmp_path / "target").exists()

    def test_target_that_can_not_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(PublishError, match="can't write to"):
            publish_to(str(tmp_path / "file"), VERSION)


class TestStore:
    @pytest.fixture
    def store(self) -> Iterator[ObjectStore]:
        fsspec = pytest.importorskip("fsspec", reason="needs the extra s3 (fsspec)")
        yield ObjectStore(parse_address(STORE))
        fsspec.filesystem("memory").store.clear()

    def test_metadata_comes_last(self, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
        names: list[str] = []
        upload, create = ObjectStore.upload, ObjectStore.create

        def note_upload(self: ObjectStore, file: Path, name: str) -> None:
            names.append(name)
            upload(self, file, name)

        def note_creation(self: ObjectStore, name: str, content: bytes) -> None:
            names.append(name)
            create(self, name, content)

        monkeypatch.setattr(ObjectStore, "upload", note_upload)
        monkeypatch.setattr(ObjectStore, "create", note_creation)
        assert publish_to(STORE, VERSION)[1] is Outcome.PUBLISHED
        assert names[-1] == "sequential/1/metadata.json"
        assert set(store.listing()) == set(names)
        assert len(names) == len(read_metadata(VERSION).files) + 1

    def test_same_does_nothing_and_another_is_rejected(self, store: ObjectStore, one_model: Path) -> None:
        publish_to(STORE, VERSION)
        before = store.listing()
        assert publish_to(STORE, VERSION)[1] is Outcome.THERE
        with pytest.raises(PublishError, match="memory://bucket/models/sequential/1 is another version"):
            publish_to(STORE, another(version_folder(one_model, "sequential", 1)))
        assert store.listing() == before

    def test_interrupted_upload_is_not_visible_and_goes_on(
        self, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upload = ObjectStore.upload

        def break_off(self: ObjectStore, file: Path, name: str) -> None:
            if name.endswith("golden.npz"):
                raise StoreError("the connection broke")
            upload(self, file, name)

        with monkeypatch.context() as patched:
            patched.setattr(ObjectStore, "upload", break_off)
            with pytest.raises(StoreError):
                publish_to(STORE, VERSION)
        assert "sequential/1/metadata.json" not in store.listing()
        assert publish_to(STORE, VERSION)[1] is Outcome.PUBLISHED

    def test_faster_publisher_wins(self, store: ObjectStore, one_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = publish_copy(one_model, 2)
        theirs = folder / "metadata.json"
        monkeypatch.setattr(ObjectStore, "exists", lambda *_: False)
        store.create("sequential/2/metadata.json", theirs.read_bytes())
        assert publish_to(STORE, folder)[1] is Outcome.THERE
        with pytest.raises(PublishError, match="is another version"):
            publish_to(STORE, another(folder))


@pytest.mark.parametrize("target", ["hf://user/models", "https://example.org/models.zip"])
def test_some_stores_are_only_read(target: str) -> None:
    with pytest.raises(PublishError, match="can only be read"):
        publish_to(target, VERSION)
