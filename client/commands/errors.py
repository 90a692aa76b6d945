"""The one error of the command line itself: ProjectError > CommandLineError."""

from catalog.errors import ProjectError


class CommandLineError(ProjectError):
    """What the command was given can't be done."""
