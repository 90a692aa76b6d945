from pathlib import Path

import pytest

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.artifacts.saved_model import SignatureTensor, read_signatures
from cifar10_serving.errors import ArtifactCorruptError, ArtifactMissingError
from tests.conftest import MODELS, every_published_version


@pytest.mark.parametrize(("name", "version"), every_published_version())
def test_signatures_are_read_without_tensorflow(name: str, version: int) -> None:
    signatures = read_signatures(version_folder(MODELS, name, version))
    assert set(signatures) == {"__saved_model_init_op", "encoded_images", "serving_default"}
    (name_of_input,) = signatures["serving_default"].inputs
    assert name_of_input == "images"
    assert signatures["serving_default"].inputs["images"] == SignatureTensor(
        "serving_default_images:0", "DT_UINT8", (-1, 32, 32, 3)
    )
    assert signatures["encoded_images"].inputs["image_bytes"].dtype == "DT_STRING"
    assert signatures["serving_default"].outputs["probabilities"].shape == (-1, 10)
    assert signatures["__saved_model_init_op"].outputs["__saved_model_init_op"].shape is None
    assert signatures["serving_default"].method_name == "tensorflow/serving/predict"


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissingError, match=r"saved_model\.pb is not there"):
        read_signatures(tmp_path)


@pytest.mark.parametrize(
    "content", [b"\x12", b"\x12\x05", b"\x07", b"\xff" * 20, b"\x12\x02\x2a\x05", b"\x12\x02\x2a\x00"]
)
def test_file_that_is_no_saved_model_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ArtifactCorruptError, match="not a SavedModel"):
        read_signatures(tmp_path)


def test_cut_off_file_is_an_error_of_ours_wherever_it_ends(tmp_path: Path) -> None:
    content = (version_folder(MODELS, "sequential", 1) / "saved_model.pb").read_bytes()
    file = tmp_path / "saved_model.pb"
    for end in range(0, len(content), len(content) // 50):
        file.write_bytes(content[:end])
        if end:
            with pytest.raises(ArtifactCorruptError):
                read_signatures(tmp_path)
        else:
            assert read_signatures(tmp_path) == {}
