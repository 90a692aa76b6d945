"""The errors of batch scoring. One image's error is a row of the output; these end the run."""

from cifar10_serving.errors import ProjectError


class ScoringError(ProjectError):
    """Raised if a run can't go on; what it has written stays, and the same command continues it."""


class ScoringUsageError(ScoringError):
    """Raised for a run that can't begin as given: a bad input, output, option or model."""


class UnreadableInputError(ScoringError):
    """Raised for one input that can't be read; its row says so."""
