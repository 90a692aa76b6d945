import numpy as np
from numpy.typing import NDArray

from training.augmentation import GREY, augment, cut_mix
from training.data import Split
from training.recipes import Augmentation


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def numbered_images() -> NDArray[np.uint8]:
    """200 images whose pixels say where they stood: (row, column, 0)."""
    rows, columns = np.mgrid[:32, :32].astype(np.uint8)
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1)[None].repeat(200, axis=0)


def test_nothing_asked_for_changes_nothing(golden_split: Split) -> None:
    assert np.array_equal(augment(golden_split.pixels, Augmentation(), random()), golden_split.pixels)


def test_same_draws_give_the_same_images_and_others_others(golden_split: Split) -> None:
    everything = Augmentation(crop_padding_pixels=4, flip=True, cutout_pixels=8)
    first = augment(golden_split.pixels, everything, random(1))
    assert first.dtype == np.uint8
    assert first.shape == golden_split.pixels.shape
    assert np.array_equal(first, augment(golden_split.pixels, everything, random(1)))
    assert not np.array_equal(first, augment(golden_split.pixels, everything, random(2)))


def test_flip_mirrors_about_every_other_image_and_leaves_the_rest(golden_split: Split) -> None:
    images = golden_split.pixels.repeat(8, axis=0)
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


def test_contrast_is_lowered_about_each_channels_mean_in_a_share_of_the_images(golden_split: Split) -> None:
    images = golden_split.pixels.repeat(4, axis=0)
    changed = augment(images, Augmentation(contrast_share=0.5, contrast_lowest=0.3), random())
    spread = changed.std(axis=(1, 2)) / images.std(axis=(1, 2))
    lowered = (changed != images).any(axis=(1, 2, 3))
    assert 0.4 < lowered.mean() < 0.6
    assert 0.28 < spread[lowered].min() < 0.4
    assert spread.max() < 1.02
    np.testing.assert_allclose(changed.mean(axis=(1, 2)), images.mean(axis=(1, 2)), atol=0.6)


def test_noise_is_added_to_a_share_of_the_images_up_to_its_deviation() -> None:
    images = np.full((400, 32, 32, 3), 128, np.uint8)
    noisy = augment(images, Augmentation(noise_share=0.25, noise_deviation=0.1), random())
    deviations = noisy.std(axis=(1, 2, 3)) / 255
    assert 0.18 < (deviations > 0).mean() < 0.32
    assert 0.09 < deviations.max() < 0.105
    assert abs(noisy.mean() - 128) < 0.1


def test_noise_at_the_ends_of_the_scale_does_not_wrap_around() -> None:
    images = np.concatenate([np.zeros((40, 32, 32, 3), np.uint8), np.full((40, 32, 32, 3), 255, np.uint8)])
    noisy = augment(images, Augmentation(noise_share=1, noise_deviation=0.1), random())
    assert noisy[:40].max() < 128 < noisy[40:].min()


def test_cut_mix_pastes_a_rectangle_of_another_image_in_its_place() -> None:
    images = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None, None], (200, 32, 32, 3))
    mixed = cut_mix(images, 0.5, random())
    foreign = (mixed != images).all(axis=-1)
    areas = foreign.sum(axis=(1, 2))
    assert 0.35 < (areas > 0).mean() < 0.6
    assert areas.max() > 700
    heights, widths = foreign.any(axis=2).sum(axis=1), foreign.any(axis=1).sum(axis=1)
    assert np.array_equal(areas, heights * widths)
    assert all(len(np.unique(new)) <= 2 for new in mixed)


def test_cut_mix_of_no_share_changes_nothing(golden_split: Split) -> None:
    assert np.array_equal(cut_mix(golden_split.pixels, 0, random()), golden_split.pixels)
