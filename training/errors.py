"""The errors of training; a branch of `cifar10_serving.errors.ProjectError`.

TrainingError
├── DatasetError          the images are missing, incomplete or something else
├── RecipeError           the recipe doesn't exist, or doesn't fit the model
├── ArchitectureError     an own architecture can't be loaded, or builds something else than a classifier
├── BackboneWeightsError  a backbone's initial weights can't be loaded
├── BackendError          the Keras backend doesn't support the operation
├── DivergedError         the loss is no longer a finite number
├── CheckpointError       the state of a run can't be saved or restored
├── PictureError          an image of the data set can't be written
├── ReportError           (report) nothing to report on, or the page can't be written
├── QuantizationError     a version can't be quantized to int8
├── ModelImportError      a model from elsewhere can't be imported
└── ExportError           the exported artifact's answers differ from the Keras model's
"""

from cifar10_serving.errors import ProjectError


class TrainingError(ProjectError):
    """Base class of the errors of training."""


class DatasetError(TrainingError):
    """The data set can't be read, or the files contain something else."""


class RecipeError(TrainingError):
    """The recipe doesn't exist, or doesn't fit the model."""


class ArchitectureError(TrainingError):
    """A file with an own architecture can't be run, or its function builds no classifier of the images."""


class BackboneWeightsError(TrainingError):
    """A backbone's initial weights are missing, or belong to another network."""


class BackendError(TrainingError):
    """The Keras backend doesn't support the operation."""


class PictureError(TrainingError):
    """The image of the data set can't be written."""


class ExportError(TrainingError):
    """The exported artifact's answers differ from the trained model's."""


class QuantizationError(TrainingError):
    """A version has an int8 network already, or its graph can't be quantized."""


class ModelImportError(TrainingError):
    """A model that was trained elsewhere can't be imported, or what was said about it doesn't fit it."""


class DivergedError(TrainingError):
    """The loss of an epoch is not a finite number, so the weights are useless."""


class CheckpointError(TrainingError):
    """The state of a run can't be written or read."""
