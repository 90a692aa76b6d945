"""Exit codes of the command line, and the error of a wrong command."""

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
    """Stable, for scripts."""

    DONE = 0
    FAILED = 1
    """Nothing was answered: the service refused it, or a file can't be read."""
    USAGE = 2
    """An option, a value or an address that can't be; argparse's own code."""
    PARTLY = 3
    """Some images were answered, others not."""
    NO_ANSWER = 4
    """The service can't be reached, is overloaded or not ready, or doesn't answer in time."""
    NOT_THE_SERVICE = 5
    """Something else answers at the address."""
    UNAUTHORIZED = 6
    """The token is missing or wrong."""
    STOPPED = 130
    """Ctrl-C."""
    NO_READER = 141
    """Whoever read the output, such as `head`, has gone."""


def exit_code(error: ProjectError) -> ExitCode:
    """What an error ends a command with that has nothing else to show."""
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
    """What the command was given can't be done."""
