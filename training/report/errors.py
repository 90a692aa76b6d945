"""The errors of the report; a branch of `training.errors.TrainingError`."""

from training.errors import TrainingError


class ReportError(TrainingError):
    """There is nothing to report, or the page can't be written."""
