"""The errors of bench: ProjectError > BenchError, for everything that ends a run or one server's part in it."""

from cifar10_serving.errors import ProjectError


class BenchError(ProjectError):
    """Something that the measurement needs isn't there, or didn't do what it must."""
