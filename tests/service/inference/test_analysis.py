from pathlib import Path

import numpy as np
import pytest

from cifar10_serving.schemas import Agreement, Prediction
from service.errors import RequestError, UnavailableError
from service.inference.analysis import (
    Answered,
    agreement,
    comparable,
    importance,
    occlusions,
    patch_places,
    patch_starts,
)
from service.registry.version import ModelVersion

SHAPE = (32, 32, 3)


def prediction(label: str, confidence: float) -> Prediction:
    return Prediction(model="sequential", version=1, label=label, class_id=0, confidence=confidence, top=[])


def test_the_majority_counts_and_a_tie_goes_to_the_surer() -> None:
    cat, dog, ship = prediction("cat", 0.4), prediction("dog", 0.9), prediction("ship", 0.5)
    assert agreement([cat, dog, cat]) == Agreement(label="cat", models=2, of=3)
    assert agreement([cat, dog, ship]) == Agreement(label="dog", models=1, of=3)
    assert agreement([]) == Agreement(label=None, models=0, of=0)


def answered(name: str, labels: set[str], result: Prediction | RequestError) -> Answered:
    version = ModelVersion(name, 1, Path(), ())
    version.label_set = frozenset(labels)
    return Answered(version, result, None)


def compared(*answers: Answered) -> tuple[list[Prediction], list[str]]:
    predictions, others = comparable(answers)
    return predictions, [version.name for version in others]


def test_models_are_compared_by_the_labels_that_they_share() -> None:
    cat, dog, ship, oak = (prediction(label, 0.5) for label in ("cat", "dog", "ship", "oak"))
    pets, dogs, ships = {"cat", "dog"}, {"dog", "wolf"}, {"ship", "wolf"}
    failed = UnavailableError("busy", retry_after_s=1)
    first, trees = answered("pets", pets, cat), answered("trees", {"oak"}, oak)
    assert compared(first, answered("dogs", dogs, dog)) == ([cat, dog], [])
    assert compared(trees, first, answered("more", pets, dog)) == ([cat, dog], ["trees"])
    assert compared(first, trees) == ([cat], ["trees"])
    assert compared(trees, first) == ([oak], ["pets"])
    assert compared(answered("pets", pets, failed), trees) == ([oak], [])
    assert compared(answered("pets", pets, failed)) == ([], [])
    assert compared(first, answered("ships", ships, ship)) == ([cat], ["ships"])
    assert compared(first, answered("ships", ships, ship), answered("dogs", dogs, dog)) == ([cat, ship, dog], [])


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
