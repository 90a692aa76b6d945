"""The errors of training; a branch of `cifar10_serving.errors.ProjectError`.

TrainingError
├── DatasetError          CIFAR-10 is not there, not whole or not CIFAR-10
├── RecipeError           a recipe that doesn't exist, or doesn't fit the model
├── BackboneWeightsError  the weights that a backbone begins with can't be had
├── BackendError          Keras computes with a framework that can't do this
├── DivergedError         the loss is no longer a finite number
├── CheckpointError       the state of a run can't be kept or resumed
├── PictureError          a picture of the data set can't be written
├── ReportError           (report) there is nothing to report on, or the page can't be written
└── ExportError           the exported artifact doesn't answer as the Keras model does
"""

from cifar10_serving.errors import ProjectError


class TrainingError(ProjectError):
    """A run could not be done."""


class DatasetError(TrainingError):
    """CIFAR-10 could not be read, or the files hold something else."""


class RecipeError(TrainingError):
    """There is no such recipe for this model."""


class BackboneWeightsError(TrainingError):
    """The weights that a backbone begins with are not there, or are another network's."""


class BackendError(TrainingError):
    """Keras computes with a framework that can't do what was asked."""


class PictureError(TrainingError):
    """The picture of the data set can't be written as asked."""


class ExportError(TrainingError):
    """The exported artifact is not the model that was trained."""


class DivergedError(TrainingError):
    """The loss of an epoch is not a finite number: the weights are of no use any more."""


class CheckpointError(TrainingError):
    """The state of a run can't be written, or not be read again."""
