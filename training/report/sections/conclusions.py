"""What the tutorial concluded, and what our runs say to it; every verdict is computed from the numbers."""

import math
from typing import Final

from cifar10_serving.artifacts.labels import ModelName
from cifar10_serving.artifacts.published_results import TUTORIAL_RESULTS
from training.report.markdown import items, plain
from training.report.sections.section import Section
from training.report.sections.tutorial import sampling_error
from training.report.versions import RANDOM_WEIGHTS, SMALL_CNNS, TRANSFER_MODELS, Published, PublishedVersion

RANGE_OF_THREE_95: Final = 3.314
"""Three equal quantities lie within so many standard errors of each other in 95 % of cases (studentized range)."""


def conclusions(published: Published) -> Section:
    """The tutorial's three conclusions beside the latest versions that were trained as it trains."""
    following = [version for version in published.latest() if version.follows_tutorial]
    small = [version for version in following if version.metadata.name in SMALL_CNNS.models]
    transfer = [version for version in following if version.metadata.name in TRANSFER_MODELS.models]
    others = [
        version
        for version in published.latest()
        if version.metadata.name in TRANSFER_MODELS.models and not version.follows_tutorial
    ]
    entries = [
        f"*The three ways of writing the small CNN are equal; what differs is noise.* {_equal_styles(small)}",
        f"*The small CNNs over-fit from about epoch 5.* {_over_fitting(small)}",
        f"*A transfer model needs proper tuning to perform.* {_transfer(small, transfer, others)}",
    ]
    return Section("What the tutorial concluded", [items(entries)])


def _equal_styles(small: list[PublishedVersion]) -> str:
    if len(small) != len(SMALL_CNNS.models):
        return "**Not checked:** it takes the tutorial's recipe for all three, and not all are published."
    accuracies = [version.test.accuracy for version in small]
    spread = max(accuracies) - min(accuracies)
    theirs = _published_accuracies(SMALL_CNNS.models)
    by_sampling = RANGE_OF_THREE_95 * max(sampling_error(version.test.accuracy, version.test.n) for version in small)
    seeds = ", ".join(str(version.metadata.training.seed) for version in small)
    verdict = (
        "**Our runs agree:**" if spread <= by_sampling else "**Our accuracies alone neither confirm nor refute it:**"
    )
    return (
        f"{verdict} they lie {spread:.4f} apart, the tutorial's {max(theirs) - min(theirs):.4f}; the choice of the "
        f"test images alone accounts for up to {by_sampling:.4f} (95\u00a0%). It is one run of each style, from seeds "
        f"{seeds}, which can't tell the style from the seed. With one and the same seed the three begin as "
        "the very same network (`tests/training/architectures/test_small_cnn.py`)."
    )


def _over_fitting(small: list[PublishedVersion]) -> str:
    findings = []
    for version in small:
        history = version.metadata.training.history
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
        return "**Not checked:** no version trained by its recipe has a validation part."
    over_fitted, epochs, details = zip(*findings, strict=True)
    return (
        f"**{sum(over_fitted)} of {len(findings)} of our runs over-fit** (from its lowest point the validation loss "
        f"rises, while the training loss goes on falling). That point is after epoch {', '.join(epochs)}. "
        f"{'. '.join(details)}."
    )


def _transfer(small: list[PublishedVersion], transfer: list[PublishedVersion], others: list[PublishedVersion]) -> str:
    best_transfer, worst_small = (
        max(_published_accuracies(TRANSFER_MODELS.models)),
        min(_published_accuracies(SMALL_CNNS.models)),
    )
    words = [f"In the tutorial the best of them reaches {best_transfer:.4f}, the weakest small CNN {worst_small:.4f}."]
    if transfer and small:
        ours = max(version.test.accuracy for version in transfer)
        weakest = min(version.test.accuracy for version in small)
        verdict = "**Our runs agree:**" if ours < weakest else "**Our runs differ:**"
        words.append(f"{verdict} by the same recipe {ours:.4f} and {weakest:.4f}.")
    else:
        words.append("**Not checked:** by its own recipe no transfer model is published here.")
    for version in others:
        start = " from random weights" if version.backbone_weights == RANDOM_WEIGHTS else ""
        gain = version.test.accuracy - TUTORIAL_RESULTS[version.metadata.name].test_accuracy
        words.append(
            f"{plain(version.metadata.title)} trained{start} by the recipe {plain(version.recipe)} reaches "
            f"{version.test.accuracy:.4f}, {gain:+.4f} against the tutorial's."
        )
    return " ".join(words)


def _published_accuracies(names: tuple[ModelName, ...]) -> list[float]:
    return [TUTORIAL_RESULTS[name].test_accuracy for name in names]
