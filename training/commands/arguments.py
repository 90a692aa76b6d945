"""What the commands' options have in common, and a parser that names what a mistyped word was meant to be."""

import argparse
import re
from pathlib import Path
from typing import Any, NoReturn

from cifar10_serving.artifacts.labels import MODEL_NAMES
from cifar10_serving.text import did_you_mean


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that takes options in full only, and suggests the close match of a wrong one."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**{"allow_abbrev": False} | settings)  # type: ignore[arg-type]  # passed on as they came

    def words(self) -> set[str]:
        """What this parser knows: its options, and its commands where it has some."""
        known: set[str] = set()
        for action in self._actions:
            known |= set(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # argparse has no public name for it
                known |= set(action.choices)
        return known

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse what is unknown here: left to the parser above, a command's usage and options would be forgotten."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """End with 2, the usage and one line."""
        wrong = re.search(r"unrecognized arguments: (\S+)|invalid choice: '([^']*)'", message)
        suggestion = did_you_mean((wrong[1] or wrong[2]).partition("=")[0], self.words()) if wrong else ""
        super().error(f"{message}{suggestion}")


def add_model(command: argparse.ArgumentParser) -> None:
    """MODEL."""
    command.add_argument("model", metavar="MODEL", help=f"one of {', '.join(MODEL_NAMES)}")


def add_recipe(command: argparse.ArgumentParser) -> None:
    """--recipe, and what changes it."""
    command.add_argument(
        "--recipe", default="tutorial", metavar="NAME", help="the recipe: tutorial (the default), tuned or distilled"
    )
    command.add_argument("--seed", type=int, metavar="N", help="another seed than the recipe's")
    command.add_argument(
        "--backbone-weights",
        metavar="WEIGHTS",
        help="what a transfer model's backbone begins with: imagenet, none (drawn from the seed), or a file that "
        "Keras saved of such a backbone; default: what the recipe says",
    )
    command.add_argument(
        "--held-out",
        action="store_true",
        help="validate on a tenth of the training images, where the recipe trains on all of them",
    )


def add_checkpoints(command: argparse.ArgumentParser) -> None:
    """--checkpoints."""
    command.add_argument(
        "--checkpoints",
        type=Path,
        default=Path(".checkpoints"),
        metavar="FOLDER",
        help="keeps the state after each epoch, a frozen backbone's features and teachers' answers: .checkpoints",
    )


def add_data(command: argparse.ArgumentParser) -> None:
    """--data."""
    command.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="holds the official CIFAR-10, binary or python version; without it Keras downloads the data",
    )


def add_models(command: argparse.ArgumentParser) -> None:
    """--models."""
    command.add_argument(
        "--models", type=Path, default=Path("models"), metavar="FOLDER", help="the published versions: models"
    )
