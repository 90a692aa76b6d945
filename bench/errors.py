"""The error of the benchmark: ends a run, or one server's part in it."""

from cifar10_serving.errors import ProjectError


class BenchError(ProjectError):
    """Something that the measurement needs is missing, or failed."""
