"""Measure a model's accuracy under each known scaling of pixels, and choose the best."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedShuffleSplit

from cifar10_serving.artifacts.metadata import ScalingTrial, SourceOutputs
from training.data.dataset import Split
from training.evaluate import cross_entropy, evaluation_batch
from training.importing.wrapping import probabilities_of
from training.preprocessing import SCALINGS, scale
from training.recipes.recipe import InputScaling

NAMES: Final[dict[InputScaling, str]] = {
    "unscaled": "0 to 255",
    "divide_by_255": "0 to 1",
    "minus_one_to_one": "-1 to 1",
    "imagenet": "ImageNet's mean and deviation per channel, as in PyTorch",
    "bgr_minus_imagenet_mean": "BGR minus ImageNet's mean, as in Caffe",
    "standardize": "CIFAR-10's mean and deviation per channel",
}
"""The known scalings: what they make of a pixel."""
TRIAL_FRACTION: Final = 0.2
MIN_TRIAL_IMAGES: Final = 10
MAX_TRIAL_IMAGES: Final = 1_000
TRIAL_SEED: Final = 0

Outputs = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Trials:
    """The measured scalings and the best one."""

    table: list[ScalingTrial]
    best: InputScaling

    @property
    def equally_good(self) -> list[str]:
        """The scalings with as many correct answers as the best, including it."""
        most = max(trial.correct or 0 for trial in self.table)
        return [trial.scaling for trial in self.table if trial.correct == most]


def trial_rows(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows to measure scalings on, and the rest, on which the accuracy is measured.

    A fifth of the images, in the proportions of the classes where each has at least two images.
    """
    n = len(labels)
    wanted = min(max(round(n * TRIAL_FRACTION), min(MIN_TRIAL_IMAGES, n // 2), 1), MAX_TRIAL_IMAGES, n - 1)
    counts = np.bincount(labels)
    classes = int((counts > 0).sum())
    if counts[counts > 0].min() >= 2 and classes <= min(wanted, n - wanted):  # noqa: PLR2004
        chooser = StratifiedShuffleSplit(1, test_size=wanted, random_state=TRIAL_SEED)
        rest, chosen = next(iter(chooser.split(labels, labels)))
    else:
        order = np.random.default_rng(TRIAL_SEED).permutation(n)
        chosen, rest = order[:wanted], order[wanted:]
    return np.sort(chosen), np.sort(rest)


def all_outputs(outputs: Outputs, split: Split, scaling: InputScaling) -> NDArray[np.float32]:
    """Return a model's outputs for all images of a split under a scaling, some images at a time."""
    size = evaluation_batch(split.input_shape)
    starts = range(0, len(split), size)
    return np.concatenate([outputs(scale(split.images[start : start + size], scaling)) for start in starts])


def measure_scalings(answers: dict[InputScaling, NDArray[np.float32]], split: Split, kind: SourceOutputs) -> Trials:
    """Return the accuracy under each scaling.

    Args:
        answers: the model's outputs for the images of `split`.
        split: the images for the trial.
        kind: the meaning of the outputs.
    """
    trials = [_trial(scaling, values, split.labels, kind) for scaling, values in answers.items()]
    best = min(trials, key=lambda trial: (-(trial.correct or 0), trial.loss if trial.loss is not None else np.inf))
    return Trials(trials, next(scaling for scaling in answers if scaling == best.scaling))


def describe_trials(trials: Trials) -> str:
    """Format the table: one line for each scaling, the chosen one marked."""
    lines = []
    for trial in trials.table:
        name = NAMES.get(next(known for known in SCALINGS if known == trial.scaling), "")
        result = (
            "an answer is not a finite number"
            if trial.correct is None or trial.loss is None
            else f"{trial.correct / trial.n:.4f} ({trial.correct:,} of {trial.n:,}), loss {trial.loss:.4f}"
        )
        mark = "*" if trial.scaling == trials.best else " "
        lines.append(f"  {mark} {trial.scaling:<24} {result:<38} {name}")
    return "\n".join(lines)


def _trial(
    scaling: InputScaling, values: NDArray[np.float32], labels: Sequence[int] | NDArray[np.int64], kind: SourceOutputs
) -> ScalingTrial:
    if not np.isfinite(values).all():
        return ScalingTrial(scaling=scaling, n=len(labels), correct=None)
    probabilities = probabilities_of(values, kind)
    truth = np.asarray(labels, np.int64)
    correct = int((probabilities.argmax(axis=1) == truth).sum())
    return ScalingTrial(scaling=scaling, n=len(truth), correct=correct, loss=cross_entropy(probabilities, truth))
