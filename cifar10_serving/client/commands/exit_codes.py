"""Exit codes of the command line, and the error for an invalid command."""

from enum import IntEnum

from cifar10_serving.client._errors import (
    AddressError,
    ConfigurationError,
    DeadlineError,
    GatewayError,
    NotReadyError,
    TransportError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedAnswerError,
)
from cifar10_serving.errors import ProjectError


class ExitCode(IntEnum):
    """Exit codes; stable, for scripts."""

    DONE = 0
    FAILED = 1
    """Nothing was answered: the service rejected the request, or a file can't be read."""
    USAGE = 2
    """An invalid option, value or address; argparse's own code."""
    PARTLY = 3
    """Some images were answered, others were not."""
    NO_ANSWER = 4
    """The service can't be reached, is overloaded, not ready or too slow."""
    NOT_THE_SERVICE = 5
    """The answer is not from this service."""
    UNAUTHORIZED = 6
    """The token is missing or wrong."""
    STOPPED = 130
    """Ctrl-C."""
    NO_READER = 141
    """The reader of the output, such as `head`, has gone."""


def exit_code(error: ProjectError) -> ExitCode:
    """Return the exit code for an error that ends a command."""
    match error:
        case TransportError() | GatewayError() | NotReadyError() | UnavailableError() | DeadlineError():
            return ExitCode.NO_ANSWER
        case UnexpectedAnswerError():
            return ExitCode.NOT_THE_SERVICE
        case AddressError() | ConfigurationError():
            return ExitCode.USAGE
        case UnauthorizedError():
            return ExitCode.UNAUTHORIZED
    return ExitCode.FAILED


class CommandLineError(ProjectError):
    """Raised for a command that can't be executed as given."""
