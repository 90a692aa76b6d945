import zipfile
from pathlib import Path

import pytest

from tests.training.importing.models import write_onnx
from training.errors import ModelImportError
from training.importing.sources import open_source, source_kind, source_sha256


def test_files_of_another_kind_are_rejected_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README").touch()
    (tmp_path / "picture.keras").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "nothing.onnx").touch()
    (tmp_path / "cut.keras").write_bytes(b"PK\x03\x04 and then nothing")
    (tmp_path / "weights.pth").write_bytes(b"\x80\x02")
    with zipfile.ZipFile(tmp_path / "torch.keras", "w") as archive:
        archive.writestr("archive/data.pkl", "")
    with zipfile.ZipFile(tmp_path / "office.keras", "w") as archive:
        archive.writestr("word/document.xml", "")
    for name, problem in {
        "missing.keras": "can't be read: No such file",
        "empty": "the folder .* is empty",
        "other": "has no saved_model.pb",
        "picture.keras": "is not a model",
        "nothing.onnx": "it is empty",
        "cut.keras": "a damaged archive",
        "weights.pth": "is PyTorch.*torch.onnx.export",
        "torch.keras": "is a PyTorch file, which holds code",
        "office.keras": "an archive of something else",
    }.items():
        with pytest.raises(ModelImportError) as error:
            source_kind(tmp_path / name)
        assert error.match(problem), name
        assert "\n" not in str(error.value)


def test_other_content_named_onnx_is_rejected(tmp_path: Path) -> None:
    for content in (b"hello, this is text", b"\x0a\x00", b"\x3a\xff\xff\xff\xff\x0f"):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(ModelImportError, match=r"model.onnx"):
            open_source(tmp_path / "model.onnx", None, None)


def test_digest_depends_on_every_file_of_the_model(tmp_path: Path) -> None:
    file = write_onnx(tmp_path / "model.onnx", external="weights.data")
    first = source_sha256(file)
    (tmp_path / "weights.data").write_bytes(b"\x00" * 36)
    second = source_sha256(file)
    assert first[0] != second[0]
    assert first[1] == second[1] == file.stat().st_size + 36


def test_custom_objects_are_for_keras_alone(tmp_path: Path) -> None:
    file = write_onnx(tmp_path / "model.onnx")
    with pytest.raises(ModelImportError, match="--custom-objects with"):
        open_source(file, None, tmp_path / "layers.py")
