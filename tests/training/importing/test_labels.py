from pathlib import Path

import pytest

from training.errors import ModelImportError
from training.importing.labels import check_label_count, read_labels


def test_labels_are_lines_without_blanks_around_them(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeffcat\r\n great white shark \r\nLöwe\r\n\r\n".encode())
    assert read_labels(file) == ["cat", "great white shark", "Löwe"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"cat\n\ndog\n", "line 2 of .* is blank"),
        (b"cat\ndog\ncat\n", "lines 1 and 3 of .* are both 'cat'"),
        (b"cat\n\x1b[2J\n", "line 2 of .* is not a label"),
        (b"x" * 201, "line 1 of .* is not a label"),
        (b"\xff\xfe\x00", "not a text file in UTF-8"),
    ],
)
def test_other_files_are_rejected_with_the_line(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(content)
    with pytest.raises(ModelImportError, match=problem):
        read_labels(file)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelImportError, match=r"labels.txt can't be read: No such file"):
        read_labels(tmp_path / "labels.txt")


def test_wrong_count_names_both_numbers() -> None:
    check_label_count(["a", "b"], 1, "labels.txt")
    check_label_count(["a", "b", "c"], 3, "labels.txt")
    with pytest.raises(ModelImportError, match=r"labels.txt has 2 labels, but the model has 1,000 outputs"):
        check_label_count(["a", "b"], 1000, "labels.txt")
    with pytest.raises(ModelImportError, match=r"labels.txt has 3 labels, but the model has 1 output for 2 classes"):
        check_label_count(["a", "b", "c"], 1, "labels.txt")
