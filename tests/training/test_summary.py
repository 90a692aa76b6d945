import pytest

from training.architectures import ARCHITECTURES
from training.cifar10 import MODEL_NAMES, TUTORIAL_RESULTS
from training.data import CIFAR_DIMENSIONS
from training.recipes import get_recipe
from training.summary import rows, summarize

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_formula_gives_the_side_that_keras_has_for_every_layer(name: str) -> None:
    worked_out = [row for row in rows(ARCHITECTURES[name](CIFAR_DIMENSIONS), CIFAR_DIMENSIONS) if row.side is not None]
    assert len(worked_out) >= 5
    assert [row.side.pixels for row in worked_out if row.side] == [row.output_shape[1] for row in worked_out]


@pytest.mark.parametrize("name", ["mobilenetv2", "resnet50v2"])
def test_formula_holds_for_odd_sides_and_strides_too(name: str) -> None:
    model = ARCHITECTURES[name](CIFAR_DIMENSIONS, upsample_to=45)
    worked_out = [row for row in rows(model, CIFAR_DIMENSIONS) if row.side is not None]
    assert [row.side.pixels for row in worked_out if row.side] == [row.output_shape[1] for row in worked_out]


def test_three_styles_have_the_same_layers_in_the_order_of_the_image() -> None:
    tables = [
        [
            (row.type, row.output_shape, row.parameters, row.side)
            for row in rows(ARCHITECTURES[name](CIFAR_DIMENSIONS), CIFAR_DIMENSIONS)
        ]
        for name in ("sequential", "functional", "subclassing")
    ]
    without_input = [[row for row in table if row[0] != "InputLayer"] for table in tables]
    assert len(without_input[0]) == 8
    assert without_input[0] == without_input[1] == without_input[2]


def test_summary_prints_shapes_sums_and_totals() -> None:
    text = summarize(get_recipe("tutorial", "sequential"), CIFAR_DIMENSIONS)
    assert "floor((32 + 2 - 3)/1) + 1 = 32" in text
    assert "floor((16 + 0 - 2)/2) + 1 = 8" in text
    assert "(None, 4096)" in text
    assert "Total params: 582,026 (2.22 MB)" in text


def test_summary_of_a_transfer_model_needs_no_weights_and_shows_what_trains() -> None:
    text = summarize(get_recipe("tutorial", "vgg16"), CIFAR_DIMENSIONS)
    published = TUTORIAL_RESULTS["vgg16"]
    assert f"Total params: {published.parameters:,}" in text
    assert f"Trainable params: {published.trainable:,}" in text
    assert "  block5_conv3 (Conv2D)" in text
