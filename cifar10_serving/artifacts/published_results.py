"""What the tutorial that this project reproduces reports of each model, to be held against ours.

A 2023 tutorial on TensorFlow 2.10 and Keras 2; test set, after 20 epochs.
"""

from typing import Annotated, Final

from pydantic import Field

from cifar10_serving.artifacts.labels import ModelName
from cifar10_serving.artifacts.metadata import Count, Probability, Record


class TutorialResult(Record):
    """A row of the tutorial's results: TensorFlow 2.10 and Keras 2, test set, after 20 epochs."""

    parameters: Count
    trainable: Count
    test_loss: Annotated[float, Field(ge=0)]
    test_accuracy: Probability


def _result(parameters: int, trainable: int, test_loss: float, test_accuracy: float) -> TutorialResult:
    return TutorialResult(parameters=parameters, trainable=trainable, test_loss=test_loss, test_accuracy=test_accuracy)


TUTORIAL_RESULTS: Final[dict[ModelName, TutorialResult]] = {
    "sequential": _result(582_026, 582_026, 1.5397, 0.7020),
    "functional": _result(582_026, 582_026, 1.7000, 0.7008),
    "subclassing": _result(582_026, 582_026, 1.6596, 0.7104),
    "vgg16": _result(14_789_258, 74_570, 1.1999, 0.6037),
    "mobilenetv2": _result(2_430_858, 172_874, 1.8455, 0.3470),
    "resnet50v2": _result(23_835_978, 271_178, 2.8342, 0.3629),
}
