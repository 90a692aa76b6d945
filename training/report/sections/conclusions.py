"""The tutorial's conclusions, checked against our runs; every verdict is computed from the numbers."""

import math
from typing import Final

from training.cifar10 import TUTORIAL_RESULTS
from training.report.markdown import items, plain
from training.report.sections.section import Section
from training.report.sections.tutorial import sampling_error, tutorial_of
from training.report.versions import RANDOM_WEIGHTS, SMALL_CNNS, TRANSFER_MODELS, Published, PublishedVersion

RANGE_OF_THREE_95: Final = 3.314
"""The range of three equal quantities is within this many standard errors in 95 % of cases (studentized range)."""


def conclusions(published: Published) -> Section:
    """Check the tutorial's three conclusions against the latest versions trained with its recipe."""
    comparable = [version for version in published.latest() if tutorial_of(version) is not None]
    small = [v for v in comparable if v.follows_tutorial and v.metadata.name in SMALL_CNNS.models]
    all_transfer = [v for v in comparable if v.metadata.name in TRANSFER_MODELS.models]
    transfer = [version for version in all_transfer if version.follows_tutorial]
    others = [version for version in all_transfer if not version.follows_tutorial]
    entries = [
        f"*The three ways of writing the small CNN are equivalent; the differences are noise.* {_equal_styles(small)}",
        f"*The small CNNs over-fit from about epoch 5.* {_over_fitting(small)}",
        f"*A transfer model needs proper tuning to perform well.* {_transfer(small, transfer, others)}",
    ]
    return Section("The tutorial's conclusions", [items(entries)])


def _equal_styles(small: list[PublishedVersion]) -> str:
    if len(small) != len(SMALL_CNNS.models):
        return "**Not checked:** this needs published versions of all three, trained with the tutorial's recipe."
    accuracies = [version.test.accuracy for version in small]
    spread = max(accuracies) - min(accuracies)
    theirs = _published_accuracies(SMALL_CNNS.models)
    by_sampling = RANGE_OF_THREE_95 * max(sampling_error(version.test.accuracy, version.test.n) for version in small)
    seeds = ", ".join(str(version.metadata.training_run.seed) for version in small)
    verdict = (
        "**Our runs agree:**" if spread <= by_sampling else "**Our accuracies alone neither confirm nor refute it:**"
    )
    return (
        f"{verdict} their range is {spread:.4f}, the tutorial's {max(theirs) - min(theirs):.4f}; the choice of the "
        f"test images alone explains up to {by_sampling:.4f} (95\u00a0%). There is one run per style, with the seeds "
        f"{seeds}, so the effect of the style can't be separated from that of the seed. With the same seed, all three "
        "start as identical networks (`tests/training/architectures/test_small_cnn.py`)."
    )


def _over_fitting(small: list[PublishedVersion]) -> str:
    findings = []
    for version in small:
        history = version.history
        losses = [(entry.val_loss, entry) for entry in history if entry.val_loss is not None]
        validated = [(loss, entry) for loss, entry in losses if math.isfinite(loss)]
        if not validated:
            continue
        lowest, best = min(validated, key=lambda pair: pair[0])
        final, last = validated[-1]
        words = (
            f"{plain(version.metadata.title)}: validation loss {lowest:.3f} after epoch {best.epoch} and {final:.3f} "
            f"after epoch {last.epoch}, training loss {best.loss:.3f} and {last.loss:.3f}"
        )
        findings.append((final > lowest and last.loss < best.loss, str(best.epoch), words))
    if not findings:
        return "**Not checked:** no version trained with its recipe has a validation split."
    over_fitted, epochs, details = zip(*findings, strict=True)
    return (
        f"**{sum(over_fitted)} of {len(findings)} of our runs over-fit:** after its minimum the validation loss rises, "
        f"while the training loss keeps falling. The minimum is after epoch {', '.join(epochs)}. "
        f"{'. '.join(details)}."
    )


def _transfer(small: list[PublishedVersion], transfer: list[PublishedVersion], others: list[PublishedVersion]) -> str:
    best_transfer, worst_small = (
        max(_published_accuracies(TRANSFER_MODELS.models)),
        min(_published_accuracies(SMALL_CNNS.models)),
    )
    words = [
        f"In the tutorial, the best transfer model reaches {best_transfer:.4f}, the worst small CNN {worst_small:.4f}."
    ]
    if transfer and small:
        ours = max(version.test.accuracy for version in transfer)
        weakest = min(version.test.accuracy for version in small)
        verdict = "**Our runs agree:**" if ours < weakest else "**Our runs differ:**"
        words.append(f"{verdict} {ours:.4f} and {weakest:.4f} with the same recipe.")
    else:
        words.append("**Not checked:** no transfer model trained with the tutorial's recipe is published here.")
    for version in others:
        start = " from random weights" if version.backbone_weights == RANDOM_WEIGHTS else ""
        gain = version.test.accuracy - TUTORIAL_RESULTS[version.metadata.name].test_accuracy
        words.append(
            f"{plain(version.metadata.title)} trained{start} with the recipe {plain(version.recipe)} reaches "
            f"{version.test.accuracy:.4f}, {gain:+.4f} compared with the tutorial."
        )
    return " ".join(words)


def _published_accuracies(names: tuple[str, ...]) -> list[float]:
    return [TUTORIAL_RESULTS[name].test_accuracy for name in names]
