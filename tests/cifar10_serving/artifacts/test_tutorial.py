from pathlib import Path

import pytest

from cifar10_serving.artifacts.tutorial import TUTORIAL_FILE, TutorialResult, read_tutorial
from tests.conftest import MODELS

RESULT = TutorialResult(parameters=10, trainable=4, test_loss=1.5, test_accuracy=0.7)


def write(models: Path, content: bytes) -> None:
    (models / "mine").mkdir()
    (models / "mine" / TUTORIAL_FILE).write_bytes(content)


def test_what_lies_beside_the_versions_is_read(tmp_path: Path) -> None:
    write(tmp_path, RESULT.model_dump_json().encode())
    assert read_tutorial(tmp_path, "mine") == RESULT
    assert read_tutorial(MODELS, "sequential") is not None


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"parameters": NaN}', RESULT.model_dump_json().encode() + b" " * 2**15]
)
def test_what_is_no_result_is_passed_over(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, content)
    assert read_tutorial(tmp_path, "mine") is None


def test_nothing_outside_of_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "outside.json").write_text(RESULT.model_dump_json())
    (tmp_path / "mine" / TUTORIAL_FILE).symlink_to(tmp_path / "outside.json")
    assert read_tutorial(tmp_path, "mine") is None
    assert read_tutorial(tmp_path, "others") is None
