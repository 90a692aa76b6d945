import numpy as np
import pytest

from service.inference.explanation import importance, occluded, occlusions, patch_masks, patch_starts


@pytest.mark.parametrize(
    ("patch", "stride", "starts"),
    [(8, 8, [0, 8, 16, 24]), (8, 4, [0, 4, 8, 12, 16, 20, 24]), (10, 10, [0, 10, 20, 22]), (32, 1, [0])],
)
def test_the_last_patch_ends_at_the_border(patch: int, stride: int, starts: list[int]) -> None:
    assert patch_starts(patch, stride) == starts


@pytest.mark.parametrize(("patch", "stride"), [(8, 4), (5, 5), (7, 3), (1, 1), (32, 32), (31, 2)])
def test_every_pixel_is_hidden_at_least_once(patch: int, stride: int) -> None:
    masks = patch_masks(patch, stride)
    assert masks.shape == (len(patch_starts(patch, stride)) ** 2, 32, 32)
    assert masks.any(axis=0).all()
    assert (masks.sum(axis=(1, 2)) == patch * patch).all()


def test_a_patch_has_the_pictures_mean_colour_and_the_rest_is_as_it_was() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    masks = patch_masks(16, 16)
    hidden = occluded(image, masks)
    assert hidden.dtype == np.uint8
    assert (hidden[0, :16, :16] == image.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)).all()
    assert np.array_equal(hidden[3, :16], image[:16])
    assert np.array_equal(occlusions(image, 16, 16), np.concatenate([image[None], hidden]))


def test_importance_is_the_mean_drop_of_the_patches_over_a_pixel() -> None:
    masks = patch_masks(16, 8)
    drops = np.zeros(9, np.float32)
    drops[0] = 0.9  # the top left patch, 0..15
    drops[4] = -0.3  # the one in the middle, 8..23
    result = importance(drops, masks)
    assert result[0, 0] == pytest.approx(0.9)  # hidden by the first patch alone
    assert result[10, 10] == pytest.approx((0.9 - 0.3) / 4)  # by four
    assert result[31, 31] == 0
