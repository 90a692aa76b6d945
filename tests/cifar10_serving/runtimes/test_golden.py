import contextlib
import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.errors import ArtifactCorruptError, ModelLoadError
from cifar10_serving.runtimes.base import Images, Probabilities
from cifar10_serving.runtimes.golden import GoldenAnswers, check_golden, read_golden
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from tests.conftest import MODELS
from tests.fakes import FakeModel

FOLDER = version_folder(MODELS, "sequential", 1)


class ShiftedModel(FakeModel):
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
def test_wrong_answers_are_rejected_with_how_wrong(shift: float) -> None:
    with pytest.raises(ModelLoadError, match=r"up to (0.002|nan) away.*Expected: at most 0.001 in float32"):
        check_golden(ShiftedModel(shift), FOLDER, read_metadata(FOLDER), "float32")


def test_no_more_images_are_computed_than_are_asked_for() -> None:
    model = ShiftedModel(0)
    golden = read_golden(FOLDER / "golden.npz")
    model.forget(golden.images[16:])
    assert check_golden(model, FOLDER, read_metadata(FOLDER), "float32", max_images=16) == 0
    with pytest.raises(KeyError):
        check_golden(model, FOLDER, read_metadata(FOLDER), "float32")


def test_answers_of_another_form_are_rejected() -> None:
    class Fewer(ShiftedModel):
        def predict(self, images: Images) -> Probabilities:
            return super().predict(images)[:, :1]

    with pytest.raises(ModelLoadError, match=r"answers \(64, 1\)\. Expected: \(64, 10\)"):
        check_golden(Fewer(0), FOLDER, read_metadata(FOLDER), "float32")


@pytest.mark.parametrize(
    "changed",
    [
        {"images": np.zeros((64, 32, 33, 3), np.uint8)},
        {"probabilities": np.zeros((64, 11), np.float32)},
    ],
    ids=["another size", "other classes"],
)
def test_golden_answers_of_another_model_are_rejected(tmp_path: Path, changed: dict[str, Any]) -> None:
    np.savez(tmp_path / "golden.npz", allow_pickle=False, **arrays(**changed))
    with pytest.raises(ArtifactCorruptError, match=r"Expected: \(32, 32, 3\) and \(10,\)"):
        check_golden(ShiftedModel(0), tmp_path, read_metadata(FOLDER), "float32")


def test_precision_that_was_never_evaluated_is_rejected() -> None:
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


def arrays(**changed: object) -> dict[str, NDArray[Any]]:
    golden = read_golden(FOLDER / "golden.npz")
    parts = {"images": golden.images, "labels": golden.labels, "probabilities": golden.probabilities} | changed
    return {name: np.asarray(part) for name, part in parts.items()}


class Harmful:
    """Touches a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self._file,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    labels = np.array([Harmful(tmp_path / "touched")], dtype=object)
    np.savez(tmp_path / "golden.npz", allow_pickle=True, **arrays(labels=labels))
    with pytest.raises(ArtifactCorruptError, match="labels is object"):
        read_golden(tmp_path / "golden.npz")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"images": np.zeros((64, 32, 32), np.uint8)},
        {"images": np.zeros((64, 32, 32, 3), np.float32)},
        {"probabilities": np.zeros(64, np.float32)},
        {"probabilities": np.zeros((64, 1), np.float32)},
        {"probabilities": np.zeros((64, 10_001), np.float32)},
        {"images": np.zeros((64, 32, 32, 4), np.uint8)},
        {"images": np.zeros((64, 7, 32, 3), np.uint8)},
        {"images": np.zeros((1, 8, 1025, 3), np.uint8)},
        {"probabilities": np.zeros((64, 10), "S4")},
        {"labels": np.zeros(3, np.int64)},
        {"images": np.asfortranarray(np.zeros((64, 32, 32, 3), np.uint8))},
    ],
)
def test_arrays_of_another_shape_or_type_are_rejected(tmp_path: Path, changed: dict[str, Any]) -> None:
    np.savez(tmp_path / "golden.npz", allow_pickle=False, **arrays(**changed))
    with pytest.raises(ArtifactCorruptError, match=r"golden.npz can't be read"):
        read_golden(tmp_path / "golden.npz")


def write_member(file: Path, shape: tuple[int, ...], content_bytes: int) -> None:
    """Write golden answers whose images declare one shape and hold another number of bytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as member:
        member.write(header.getvalue())
        for _ in range(content_bytes // 2**20):
            member.write(bytes(2**20))


@pytest.mark.parametrize(("images", "megabytes"), [(10**9, 1), (100_000, 100), (64, 100)])
def test_array_is_not_unpacked_where_it_declares_too_much(tmp_path: Path, images: int, megabytes: int) -> None:
    write_member(tmp_path / "golden.npz", (images, 32, 32, 3), megabytes * 2**20)
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactCorruptError, match=r"images (takes|holds)"):
            read_golden(tmp_path / "golden.npz")
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_damage_anywhere_is_an_error_of_ours(tmp_path: Path) -> None:
    content = (FOLDER / "golden.npz").read_bytes()
    file = tmp_path / "golden.npz"
    for place in [*range(200), *range(len(content) - 300, len(content)), *range(200, len(content), 5_000)]:
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        file.write_bytes(damaged)
        with contextlib.suppress(ArtifactCorruptError):  # what only tells a date or a system changes nothing
            assert read_golden(file).images.shape == (64, 32, 32, 3)


def test_golden_images_hold_every_class() -> None:
    golden: GoldenAnswers = read_golden(FOLDER / "golden.npz")
    assert golden.images.shape == (64, 32, 32, 3)
    assert set(golden.labels.tolist()) == set(range(10))
