from pathlib import Path

import numpy as np
import pytest

from catalog.artifact import read_metadata, version_folder
from catalog.errors import ArtifactCorruptError, ModelLoadError
from runtime.base import Images, Probabilities
from runtime.golden import GoldenAnswers, check_golden, read_golden
from runtime.openvino import OpenVinoRuntime
from tests.conftest import MODELS
from tests.made_up_model import MadeUpModel

FOLDER = version_folder(MODELS, "sequential", 1)


class ShiftedModel(MadeUpModel):
    """Answers as published, but a little off."""

    def __init__(self, shift: float) -> None:
        golden = read_golden(FOLDER / "golden.npz")
        self._answers = {
            image.tobytes(): answer + np.float32(shift)
            for image, answer in zip(golden.images, golden.probabilities, strict=True)
        }

    def forget(self, images: Images) -> None:
        for image in images:
            del self._answers[image.tobytes()]

    def predict(self, images: Images) -> Probabilities:
        return np.stack([self._answers[image.tobytes()] for image in images])


def test_published_version_passes_with_a_tiny_difference() -> None:
    difference = check_golden(OpenVinoRuntime().load(FOLDER), FOLDER, read_metadata(FOLDER), "float32")
    assert difference < 1e-5


@pytest.mark.parametrize("shift", [0.002, float("nan")])
def test_wrong_answers_are_refused_with_how_wrong(shift: float) -> None:
    with pytest.raises(ModelLoadError, match=r"up to (0.002|nan) away.*Expected: at most 0.001 in float32"):
        check_golden(ShiftedModel(shift), FOLDER, read_metadata(FOLDER), "float32")


def test_no_more_images_are_computed_than_are_asked_for() -> None:
    model = ShiftedModel(0)
    golden = read_golden(FOLDER / "golden.npz")
    model.forget(golden.images[16:])
    assert check_golden(model, FOLDER, read_metadata(FOLDER), "float32", most_images=16) == 0
    with pytest.raises(KeyError):
        check_golden(model, FOLDER, read_metadata(FOLDER), "float32")


def test_precision_that_was_never_evaluated_is_refused() -> None:
    metadata = read_metadata(FOLDER)
    golden = metadata.golden.model_copy(update={"tolerance": {"float32": 0.001}})
    with pytest.raises(ModelLoadError, match="never evaluated in bfloat16"):
        check_golden(ShiftedModel(0), FOLDER, metadata.model_copy(update={"golden": golden}), "bfloat16")


def test_answers_survive_the_file(tmp_path: Path) -> None:
    golden = read_golden(FOLDER / "golden.npz")
    golden.save(tmp_path / "golden.npz")
    again = read_golden(tmp_path / "golden.npz")
    assert np.array_equal(again.images, golden.images)
    assert np.array_equal(again.probabilities, golden.probabilities)


@pytest.mark.parametrize("content", [b"no zip file", b""], ids=["foreign", "cut off"])
def test_unreadable_file_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    whole = (FOLDER / "golden.npz").read_bytes()
    (tmp_path / "golden.npz").write_bytes(content or whole[: len(whole) // 2])
    with pytest.raises(ArtifactCorruptError, match=r"golden.npz can't be read"):
        read_golden(tmp_path / "golden.npz")


def test_golden_images_hold_every_class() -> None:
    golden: GoldenAnswers = read_golden(FOLDER / "golden.npz")
    assert golden.images.shape == (64, 32, 32, 3)
    assert set(golden.labels.tolist()) == set(range(10))
