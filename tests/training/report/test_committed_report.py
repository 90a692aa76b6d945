"""docs/results is up to date with the published versions; `python -m training report` updates it."""

from pathlib import Path

import pytest

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from tests.conftest import MODELS, PUBLISHED, ROOT
from training.cifar10 import MODEL_NAMES

RESULTS = ROOT / "docs/results"


@pytest.mark.parametrize("file", ["results.md", "results.html"])
def test_every_published_version_is_in_it_with_its_accuracy(file: str) -> None:
    text = (RESULTS / file).read_text(encoding="utf-8")
    assert PUBLISHED
    for name in MODEL_NAMES:
        for folder in sorted((MODELS / name).glob("[0-9]*")):
            metadata = read_metadata(version_folder(MODELS, name, int(folder.name)))
            test = metadata.evaluation("test", "float32", "openvino")
            assert test is not None
            assert f"{name}/{folder.name}" in text
            assert f"{test.accuracy:.4f}" in text


def test_every_picture_is_there_and_none_is_left_over() -> None:
    text = (RESULTS / "results.html").read_text(encoding="utf-8")
    pictures = {Path(picture.name).name for picture in (RESULTS / "plots").iterdir()}
    assert pictures
    assert {name for name in pictures if f"plots/{name}" in text} == pictures
