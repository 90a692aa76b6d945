import pytest

from training.errors import ModelImportError
from training.importing.source import SourceInput, image_input, output_count


def test_size_and_layout_come_from_the_shape() -> None:
    assert image_input((None, 24, 32, 3), "float32", None) == SourceInput((24, 32), "NHWC", "float32")
    assert image_input((1, 3, 24, 32), "float32", None) == SourceInput((24, 32), "NCHW", "float32")
    assert image_input((None, 24, 32, 3), "uint8", (24, 32)).scales_itself


def test_size_of_models_for_any_size_is_an_option() -> None:
    assert image_input((None, None, None, 3), "float32", (224, 160)).size == (224, 160)
    assert image_input((None, 3, None, None), "float32", (224, 160)) == SourceInput((224, 160), "NCHW", "float32")
    assert image_input(None, "float32", (64, 64)).size == (64, 64)
    with pytest.raises(ModelImportError, match="pass --image-size"):
        image_input((None, None, None, 3), "float32", None)


@pytest.mark.parametrize(
    ("shape", "dtype", "problem"),
    [
        ((None, 32, 32, 1), "float32", "without a dimension of 3 channels"),
        ((None, 77), "int32", "not a batch of images"),
        ((None, 8, 32, 32, 3), "float32", r"\(any, 8, 32, 32, 3\), which is not a batch of images"),
        ((None,), "string", "text or encoded files"),
        ((None, 4, 4, 3), "float32", "4x4 pixels"),
        ((None, 4096, 4096, 3), "float32", "4096x4096 pixels"),
    ],
)
def test_other_inputs_are_rejected(shape: tuple[int | None, ...], dtype: str, problem: str) -> None:
    with pytest.raises(ModelImportError, match=problem):
        image_input(shape, dtype, None)


def test_size_that_contradicts_the_model_is_rejected() -> None:
    with pytest.raises(ModelImportError, match=r"images of 32x32 pixels .* but --image-size is 64x64"):
        image_input((None, 32, 32, 3), "float32", (64, 64))


def test_outputs_are_one_row_for_each_image() -> None:
    assert output_count((None, 1000)) == 1000
    for shape in ((None, 7, 7, 10), (None, None), (None,), None, (1, 20, 30000)):
        with pytest.raises(ModelImportError, match="not a number for each class"):
            output_count(shape)
    with pytest.raises(ModelImportError, match="10,001 outputs"):
        output_count((None, 10_001))
