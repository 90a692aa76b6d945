import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cifar10_serving.artifacts.layout import (
    METADATA_FILE,
    file_records,
    publish,
    published_models,
    published_versions,
    read_metadata,
    staging_folder,
    verify,
    version_folder,
)
from cifar10_serving.artifacts.metadata import ModelMetadata
from cifar10_serving.errors import (
    ArtifactCorruptError,
    ArtifactError,
    ArtifactMissingError,
    MetadataError,
    PublishError,
)
from tests.conftest import MODELS, PUBLISHED, ROOT, every_published_version


@pytest.fixture
def metadata() -> ModelMetadata:
    return read_metadata(version_folder(MODELS, "sequential", 1))


def write_files(folder: Path) -> None:
    """As little as a version must have."""
    (folder / "saved_model.pb").write_bytes(b"weights")
    (folder / "golden.npz").write_bytes(b"answers")


def test_versions_are_ascending_and_other_names_are_passed_over(tmp_path: Path) -> None:
    for name in ("10", "9", "01", "0", "x", ".staging-1", "²"):
        (tmp_path / "sequential" / name).mkdir(parents=True)
    (tmp_path / "sequential" / "3").write_text("a file")
    assert published_versions(tmp_path, "sequential") == [9, 10]
    assert published_versions(tmp_path, "unknown") == []


@pytest.mark.parametrize(("name", "version"), every_published_version())
def test_published_versions_of_the_clone_are_whole(name: str, version: int) -> None:
    folder = version_folder(MODELS, name, version)
    metadata = read_metadata(folder)
    verify(folder, metadata)
    assert file_records(folder) == metadata.files


def test_models_are_in_the_order_in_which_they_were_first_published(one_model: Path) -> None:
    assert published_models(MODELS) == list(PUBLISHED)
    for name in ("a", "b"):
        shutil.copytree(one_model / "sequential", one_model / name)  # its metadata is of another name
    (one_model / "empty").mkdir()
    assert published_models(one_model) == ["sequential", "a", "b"]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissingError, match=r"sequential/7/metadata.json is not there"):
        read_metadata(version_folder(tmp_path, "sequential", 7))


def test_broken_metadata_names_file_and_field(one_model: Path) -> None:
    folder = version_folder(one_model, "sequential", 1)
    content = json.loads((folder / METADATA_FILE).read_text())
    content["evaluations"][0]["accuracy"] = 1.5
    (folder / METADATA_FILE).write_text(json.dumps(content))
    with pytest.raises(MetadataError, match=r"metadata.json: evaluations\.0\.accuracy: Input should be less than"):
        read_metadata(folder)


def test_version_in_the_wrong_folder_is_rejected(one_model: Path) -> None:
    folder = version_folder(one_model, "sequential", 1)
    moved = folder.rename(folder.with_name("2"))
    with pytest.raises(MetadataError, match="describes sequential version 1"):
        read_metadata(moved)


def test_flipped_bit_is_found(one_model: Path) -> None:
    folder = version_folder(one_model, "sequential", 1)
    file = folder / "saved_model.pb"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactCorruptError, match=r"saved_model.pb is not what was published"):
        verify(folder, read_metadata(folder))


def test_missing_file_is_named(one_model: Path) -> None:
    folder = version_folder(one_model, "sequential", 1)
    (folder / "golden.npz").unlink()
    with pytest.raises(ArtifactMissingError, match=r"golden.npz is not there"):
        verify(folder, read_metadata(folder))


def test_publishing_numbers_versions_and_lists_files(tmp_path: Path, metadata: ModelMetadata) -> None:
    for expected in (1, 2):
        with staging_folder(tmp_path, "sequential") as staging:
            write_files(staging)
            published = publish(staging, metadata, tmp_path)
        folder = version_folder(tmp_path, "sequential", expected)
        assert published.version == expected
        assert list(published.files) == ["golden.npz", "saved_model.pb"]
        assert read_metadata(folder) == published
        verify(folder, published)
    assert sorted(entry.name for entry in (tmp_path / "sequential").iterdir()) == ["1", "2"]


def test_failure_while_staging_leaves_nothing(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with staging_folder(tmp_path, "sequential") as staging:
            (staging / "saved_model.pb").write_bytes(b"half")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_publishers_at_once_get_different_numbers(tmp_path: Path, metadata: ModelMetadata) -> None:
    versions: list[int] = []

    def publish_one() -> None:
        with staging_folder(tmp_path, "sequential") as staging:
            write_files(staging)
            versions.append(publish(staging, metadata, tmp_path).version)

    threads = [threading.Thread(target=publish_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(1, 9)) == published_versions(tmp_path, "sequential")


def test_kill_while_staging_leaves_the_published_versions_as_they_were(one_model: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from cifar10_serving.artifacts.layout import staging_folder\n"
        "with staging_folder(Path(sys.argv[1]), 'sequential') as staging:\n"
        "    (staging / 'saved_model.pb').write_bytes(b'half'); print('staged', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(one_model)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"staged\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert published_versions(one_model, "sequential") == [1]
    folder = version_folder(one_model, "sequential", 1)
    verify(folder, read_metadata(folder))


def test_folder_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("not a folder")
    with pytest.raises(PublishError, match="can't write to"), staging_folder(tmp_path / "models", "sequential"):
        pass


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../../secret",
        "plots/../x",
        "./x",
        "a//b",
        "a/",
        "",
        "a\\b",
        "C:x",
        "a\0b",
        "a\nb",
        ".. /x",
        "x" * 300,
    ],
)
@pytest.mark.parametrize("field", ["files", "golden", "plots"])
def test_name_that_leads_out_of_the_folder_is_rejected(one_model: Path, field: str, name: str) -> None:
    folder = version_folder(one_model, "sequential", 1)
    content = json.loads((folder / METADATA_FILE).read_text())
    if field == "files":
        content["files"][name] = {"sha256": "0" * 64, "size_bytes": 1}
    elif field == "golden":
        content["golden"]["file"] = name
    else:
        content["plots"]["odd"] = name
    (folder / METADATA_FILE).write_text(json.dumps(content))
    with pytest.raises(MetadataError, match=rf"metadata.json: {field}\.") as caught:
        read_metadata(folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", [METADATA_FILE, "golden.npz", "saved_model.pb", "variables/variables.index", "extra"])
@pytest.mark.parametrize("target", [None, "/dev/zero", "../../../secret"])
def test_what_is_no_regular_file_of_the_version_is_rejected_without_waiting(
    one_model: Path, name: str, target: str | None
) -> None:
    (one_model.parent / "secret").write_text("secret")
    folder = version_folder(one_model, "sequential", 1)
    (folder / name).unlink(missing_ok=True)
    if target is None:
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to(target)
    with pytest.raises(ArtifactError, match=r"is a FIFO|out of the folder"):
        verify(folder, read_metadata(folder))


def test_what_a_runtime_reads_must_have_a_checksum(one_model: Path) -> None:
    folder = version_folder(one_model, "sequential", 1)
    (folder / "README").write_text("anything")
    verify(folder, read_metadata(folder))
    (folder / "variables/variables.data-00001-of-00002").write_bytes(b"weights")
    with pytest.raises(MetadataError, match=r"no checksum of variables/variables.data-00001-of-00002"):
        verify(folder, read_metadata(folder))


def test_sizes_are_compared_before_anything_is_read(one_model: Path) -> None:
    folder = version_folder(one_model, "sequential", 1)
    os.truncate(folder / "saved_model.pb", 2**40)
    with pytest.raises(ArtifactCorruptError, match="a different size"):
        verify(folder, read_metadata(folder))
    os.truncate(folder / METADATA_FILE, 2**40)
    with pytest.raises(MetadataError, match="1,099,511,627,776 bytes, more than 8,388,608"):
        read_metadata(folder)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_metadata_with_a_byte_order_mark_is_read(one_model: Path, encoding: str) -> None:
    folder = version_folder(one_model, "sequential", 1)
    text = (folder / METADATA_FILE).read_text()
    (folder / METADATA_FILE).write_bytes(text.encode(encoding))
    assert read_metadata(folder).name == "sequential"


def test_version_in_a_linked_folder_is_whole(one_model: Path) -> None:
    folder = version_folder(one_model, "sequential", 1)
    store = folder.rename(one_model.parent / "store")
    folder.symlink_to(store)
    verify(folder, read_metadata(folder))
