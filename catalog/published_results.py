"""What the tutorial that this project reproduces reports of each model, to be held against ours.

A 2023 tutorial on TensorFlow 2.10 and Keras 2; test set, after 20 epochs.
"""

from dataclasses import dataclass
from typing import Final

from catalog.labels import ModelName


@dataclass(frozen=True, slots=True)
class TutorialResult:
    """A row of the tutorial's results."""

    parameters: int
    trainable: int
    test_loss: float
    test_accuracy: float


TUTORIAL_RESULTS: Final[dict[ModelName, TutorialResult]] = {
    "sequential": TutorialResult(582_026, 582_026, 1.5397, 0.7020),
    "functional": TutorialResult(582_026, 582_026, 1.7000, 0.7008),
    "subclassing": TutorialResult(582_026, 582_026, 1.6596, 0.7104),
    "vgg16": TutorialResult(14_789_258, 74_570, 1.1999, 0.6037),
    "mobilenetv2": TutorialResult(2_430_858, 172_874, 1.8455, 0.3470),
    "resnet50v2": TutorialResult(23_835_978, 271_178, 2.8342, 0.3629),
}
