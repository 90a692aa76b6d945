import numpy as np
import pytest

from training.data.dataset import Split
from training.importing.scalings import all_outputs, describe_trials, measure_scalings, trial_rows
from training.preprocessing import SCALINGS, scale


@pytest.mark.parametrize("n", [2, 3, 7, 100, 4000])
def test_images_for_the_trial_and_for_the_accuracy_are_different_ones(n: int) -> None:
    chosen, rest = trial_rows(np.arange(n) % 10)
    assert sorted([*chosen, *rest]) == list(range(n))
    assert len(chosen) >= 1
    assert len(rest) >= 1
    assert trial_rows(np.arange(n) % 10)[0].tolist() == chosen.tolist()


def test_trial_has_every_class_in_proportion() -> None:
    labels = np.repeat([0, 1, 2], [100, 200, 300])
    chosen, _ = trial_rows(labels)
    assert np.bincount(labels[chosen]).tolist() == [20, 40, 60]


def test_best_scaling_is_the_one_that_the_model_was_made_for() -> None:
    images = np.repeat(np.arange(0, 256, 3, dtype=np.uint8), 8 * 8 * 3).reshape(-1, 8, 8, 3)
    means = scale(images, "minus_one_to_one").mean(axis=(1, 2, 3))
    split = Split(images, np.asarray(means > 0.2, np.int64))

    def outputs(
        pixels: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        mean = pixels.mean(axis=(1, 2, 3))
        values = np.stack([0.2 - mean, mean - 0.2], axis=1) * 10
        values[np.abs(mean) > 200] = np.nan
        return np.asarray(values, np.float32)

    answers = {scaling: all_outputs(outputs, split, scaling) for scaling in SCALINGS}
    trials = measure_scalings(answers, split, "logits")
    assert trials.best == "minus_one_to_one"
    results = {trial.scaling: trial for trial in trials.table}
    assert results["minus_one_to_one"].correct == len(split)
    assert results["unscaled"].correct is None
    table = describe_trials(trials)
    assert "* minus_one_to_one" in table
    assert "not a finite number" in table
