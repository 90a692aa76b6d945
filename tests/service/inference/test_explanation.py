import numpy as np
import pytest

from service.inference.explanation import importance, occlusions, patch_places, patch_starts

SHAPE = (32, 32, 3)


@pytest.mark.parametrize(
    ("side", "patch", "stride", "starts"),
    [
        (32, 8, 8, [0, 8, 16, 24]),
        (32, 8, 4, [0, 4, 8, 12, 16, 20, 24]),
        (32, 10, 10, [0, 10, 20, 22]),
        (32, 32, 1, [0]),
        (11, 4, 4, [0, 4, 7]),
    ],
)
def test_the_last_patch_ends_at_the_border(side: int, patch: int, stride: int, starts: list[int]) -> None:
    assert patch_starts(side, patch, stride) == starts


@pytest.mark.parametrize("shape", [SHAPE, (32, 48, 3), (40, 33, 3)])
@pytest.mark.parametrize(("patch", "stride"), [(8, 4), (5, 5), (7, 3), (1, 1), (32, 32), (31, 2)])
def test_every_pixel_is_hidden_at_least_once(shape: tuple[int, int, int], patch: int, stride: int) -> None:
    places = patch_places(shape, patch, stride)
    assert len(set(places)) == len(places)
    hidden = np.zeros(shape[:2], np.int64)
    for top, left in places:
        assert hidden[top : top + patch, left : left + patch].shape == (patch, patch)
        hidden[top : top + patch, left : left + patch] += 1
    assert hidden.all()


def test_a_patch_has_the_pictures_mean_colour_and_the_rest_is_as_it_was() -> None:
    image = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    whole, *hidden = occlusions(image, patch_places(SHAPE, 16, 16), 16)
    assert np.array_equal(whole, image)
    assert len(hidden) == 4
    assert hidden[0].dtype == np.uint8
    assert (hidden[0][:16, :16] == image.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)).all()
    assert np.array_equal(hidden[3][:16], image[:16])


def test_importance_is_the_mean_drop_of_the_patches_over_a_pixel() -> None:
    places = patch_places(SHAPE, 16, 8)
    drops = np.zeros(9, np.float32)
    drops[0] = 0.9  # the top left patch, 0..15
    drops[4] = -0.3  # the one in the middle, 8..23
    result = importance(drops, places, 16, SHAPE)
    assert result[0, 0] == pytest.approx(0.9)  # hidden by the first patch alone
    assert result[10, 10] == pytest.approx((0.9 - 0.3) / 4)  # by four
    assert result[31, 31] == 0
