from pathlib import Path

import pytest

from cifar10_serving.artifacts.files import replaced_file, write_published
from cifar10_serving.errors import PublishError


def test_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text("before")
    with replaced_file(file) as stream:
        stream.write(b"af")
        stream.flush()
        assert file.read_text() == "before"
        stream.write(b"ter")
    assert file.read_text() == "after"
    assert list(tmp_path.iterdir()) == [file]


def test_what_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text("before")

    def write_half() -> None:
        with replaced_file(file) as stream:
            stream.write(b"half")
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        write_half()
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_document_that_can_not_be_written_is_a_clear_error(tmp_path: Path) -> None:
    write_published(tmp_path / "file.json", "{}")
    assert (tmp_path / "file.json").read_text() == "{}\n"
    with pytest.raises(PublishError, match=r"can't write .*away/file\.json: No such file"):
        write_published(tmp_path / "away/file.json", "{}")
