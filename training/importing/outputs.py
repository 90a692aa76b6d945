"""Find out from a model's answers whether it gives probabilities or logits."""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.metadata import SourceOutputs
from training.errors import ModelImportError

SUM_TOLERANCE: Final = 1e-2
"""Probabilities computed in float16 or bfloat16 add up to 1 only about."""
Asked = Literal["logits", "probabilities"]


def kind_of_outputs(values: NDArray[np.float32], asked: Asked | None) -> SourceOutputs:
    """Return what a model's outputs mean.

    Args:
        values: (n, outputs), the answers to pictures under several scalings.
        asked: the kind that the user says; None to decide from the values.

    Raises:
        ModelImportError: the values are not finite, or neither probabilities of one class per image nor logits, or
            they contradict `asked`.
    """
    finite = values[np.isfinite(values).all(axis=1)]
    if not len(finite):
        raise ModelImportError(
            "its answers are NaN or infinite, for every picture and scaling",
            expected="finite numbers",
            remedy="the weights are damaged or training diverged: import another checkpoint",
        )
    are_shares = bool(((finite >= -SUM_TOLERANCE) & (finite <= 1 + SUM_TOLERANCE)).all())
    if values.shape[1] == 1:
        if asked == "probabilities" and not are_shares:
            raise _contradiction(finite)
        return "binary_probability" if are_shares and asked != "logits" else "binary_logit"
    sums = finite.sum(axis=1)
    add_up = are_shares and bool((np.abs(sums - 1) <= SUM_TOLERANCE).all())
    if asked == "logits" or (asked is None and not are_shares):
        return "logits"
    if add_up:
        return "probabilities"
    if asked == "probabilities":
        raise _contradiction(finite)
    raise ModelImportError(
        f"its outputs are between 0 and 1 and add up to {sums.min():.3g} to {sums.max():.3g}: it seems to give each "
        "label its own probability (a multi-label model with a sigmoid)",
        expected="probabilities of exactly one class per image, which add up to 1, or logits",
        remedy="train the last layer with softmax; if these are logits after all, pass --logits",
    )


def _contradiction(finite: NDArray[np.float32]) -> ModelImportError:
    sums = finite.sum(axis=1)
    return ModelImportError(
        f"with --probabilities: its outputs are from {finite.min():.3g} to {finite.max():.3g} and add up to "
        f"{sums.min():.3g} to {sums.max():.3g}",
        expected="numbers from 0 to 1 that add up to 1",
        remedy="leave the option away, or pass --logits",
    )
