"""Options that commands share, and the client that they configure."""

import argparse
import os
from typing import Any, Final, NoReturn

from cifar10_serving.client._config import DEFAULT_URL, MAX_SECONDS, Retries, Timeouts
from cifar10_serving.client._connection import is_token
from cifar10_serving.client._images import truncated_repr
from cifar10_serving.client.commands.exit_codes import CommandLineError
from cifar10_serving.text import printable

URL_VARIABLE: Final = "CIFAR10_URL"
TOKEN_VARIABLE: Final = "CIFAR10_TOKEN"  # noqa: S105  # the name of a variable
DEFAULT_TIMEOUT_S: Final = Timeouts().total_s
ATTEMPTS_BEFORE_CONTACT: Final = 4
"""Default limit, so that a wrong address is reported within a second or two."""
MAX_CONCURRENCY: Final = 1000
MAX_RATE: Final = 100_000
MAX_DIGITS: Final = 9


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` without abbreviated options, which reports unknown arguments with its own usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False} | settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Report unknown arguments here; the main parser would print its own usage instead of the command's."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Report an invalid argument; its text is escaped, so that it can't move the cursor."""
        super().error(printable(message))


def add_service(command: argparse.ArgumentParser) -> None:
    """Add the options for the service's address, time-outs and token."""
    command.add_argument(
        "--url",
        default=os.environ.get(URL_VARIABLE) or DEFAULT_URL,
        metavar="URL",
        help=f"the service's address; default: the variable {URL_VARIABLE}, or {DEFAULT_URL}",
    )
    command.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help=f"total time for a request and its retries; default: {DEFAULT_TIMEOUT_S:g}",
    )
    command.add_argument(
        "--retries",
        type=whole_number,
        metavar="N",
        help="how often a failed request is retried; default: until the time-out, "
        f"{ATTEMPTS_BEFORE_CONTACT - 1} times if neither is given and the service has never answered",
    )
    command.add_argument(
        "--token",
        default=os.environ.get(TOKEN_VARIABLE),
        metavar="SECRET",
        help=f"sent as Authorization: Bearer; other users can't see it in the variable {TOKEN_VARIABLE}",
    )


def client_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of `Client` and `AsyncClient` for these options.

    Raises:
        CommandLineError: the token is not valid.
    """
    token = arguments.token or None
    if token is not None and not is_token(token):
        raise CommandLineError("the token has characters that are not allowed in a header", expected="printable ASCII")
    patient = arguments.timeout is not None
    return {
        "base_url": arguments.url,
        "timeouts": Timeouts(total_s=arguments.timeout if patient else DEFAULT_TIMEOUT_S),
        "retries": Retries(
            attempts=None if arguments.retries is None else arguments.retries + 1,
            attempts_before_contact=None if patient else ATTEMPTS_BEFORE_CONTACT,
        ),
        "token": token,
    }


def add_model(command: argparse.ArgumentParser) -> None:
    """Add --model and --version."""
    command.add_argument("--model", metavar="NAME", help="name of the model; default: the service's default model")
    command.add_argument("--version", metavar="N", help="number or label of the version; default: the serving version")


def add_top_k(command: argparse.ArgumentParser) -> None:
    """Add --top-k."""
    command.add_argument("--top-k", type=positive_number, metavar="K", help="number of classes to show; default: 3")


def add_json(command: argparse.ArgumentParser, printed: str = "the service's answer") -> None:
    """Add --json, which prints this."""
    command.add_argument("--json", action="store_true", help=f"print {printed} as JSON")


def seconds(text: str) -> float:
    """Parse seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"'{truncated_repr(text)}': expected seconds above 0, at most {MAX_SECONDS:,}")
    return value


def rate(text: str) -> float:
    """Parse requests per second."""
    value = seconds(text)
    if value > MAX_RATE:
        raise argparse.ArgumentTypeError(f"'{truncated_repr(text)}': expected at most {MAX_RATE:,}")
    return value


def whole_number(text: str) -> int:
    """Parse a whole number, 0 or more."""
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise argparse.ArgumentTypeError(
            f"'{truncated_repr(text)}': expected a whole number, 0 or more, of at most {MAX_DIGITS} digits"
        )
    return int(text)


def positive_number(text: str) -> int:
    """Parse a whole number, 1 or more."""
    value = whole_number(text)
    if value == 0:
        raise argparse.ArgumentTypeError("'0': expected a whole number, 1 or more")
    return value


def concurrency(text: str) -> int:
    """Parse the number of concurrent requests."""
    value = positive_number(text)
    if value > MAX_CONCURRENCY:
        raise argparse.ArgumentTypeError(f"'{value}': expected at most {MAX_CONCURRENCY:,}")
    return value
