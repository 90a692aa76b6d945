import numpy as np
from numpy.typing import NDArray

from training.augmentation import GREY, augment
from training.data import Split
from training.recipes import Augmentation


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def numbered_images() -> NDArray[np.uint8]:
    """200 images whose pixels say where they stood: (row, column, 0)."""
    rows, columns = np.mgrid[:32, :32].astype(np.uint8)
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1)[None].repeat(200, axis=0)


def test_nothing_asked_for_changes_nothing(golden_split: Split) -> None:
    assert np.array_equal(augment(golden_split.images, Augmentation(), random()), golden_split.images)


def test_same_draws_give_the_same_images_and_others_others(golden_split: Split) -> None:
    everything = Augmentation(crop_padding_pixels=4, flip=True, cutout_pixels=8)
    first = augment(golden_split.images, everything, random(1))
    assert first.dtype == np.uint8
    assert first.shape == golden_split.images.shape
    assert np.array_equal(first, augment(golden_split.images, everything, random(1)))
    assert not np.array_equal(first, augment(golden_split.images, everything, random(2)))


def test_flip_mirrors_about_every_other_image_and_leaves_the_rest(golden_split: Split) -> None:
    images = golden_split.images.repeat(8, axis=0)
    flipped = augment(images, Augmentation(flip=True), random())
    mirrored = [np.array_equal(new, old[:, ::-1]) for new, old in zip(flipped, images, strict=True)]
    left = [np.array_equal(new, old) for new, old in zip(flipped, images, strict=True)]
    assert all(one != other for one, other in zip(mirrored, left, strict=True))
    assert 0.4 < np.mean(mirrored) < 0.6


def test_crop_moves_each_image_by_its_own_few_pixels() -> None:
    images = numbered_images()
    moved = augment(images, Augmentation(crop_padding_pixels=4), random())
    shifts = {(int(new[16, 16, 0]) - 16, int(new[16, 16, 1]) - 16) for new in moved}
    assert len(shifts) > 60
    for axis in zip(*shifts, strict=True):
        assert set(axis) == set(range(-4, 5))
    for new in moved:
        row, column = int(new[16, 16, 0]), int(new[16, 16, 1])
        assert np.array_equal(new[12:20, 12:20], images[0][row - 4 : row + 4, column - 4 : column + 4])


def test_cutout_greys_a_square_of_that_side_cut_off_at_the_edges() -> None:
    images = np.zeros((300, 32, 32, 3), np.uint8)
    cut = augment(images, Augmentation(cutout_pixels=8), random())
    grey = (cut == GREY).all(axis=-1)
    assert set(np.unique(cut)) == {0, GREY}
    areas = grey.sum(axis=(1, 2))
    assert areas.max() == 64
    assert areas.min() >= 16
    heights, widths = grey.any(axis=2).sum(axis=1), grey.any(axis=1).sum(axis=1)
    assert np.array_equal(areas, heights * widths)
