"""Options shared by several commands, and a parser that suggests the close match of a mistyped word."""

import argparse
import re
from pathlib import Path
from typing import Any, NoReturn

from cifar10_serving.text import did_you_mean
from training.cifar10 import MODEL_NAMES


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` without abbreviated options, which suggests the close match of a wrong one."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**{"allow_abbrev": False} | settings)  # type: ignore[arg-type]  # passed on unchanged

    def words(self) -> set[str]:
        """Return the parser's options and commands."""
        known: set[str] = set()
        for action in self._actions:
            known |= set(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # argparse has no public name for it
                known |= set(action.choices)
        return known

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Reject unknown arguments here: the parent parser's error would not show the command's usage and options."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and one line, and exit with 2."""
        wrong = re.search(r"unrecognized arguments: (\S+)|invalid choice: '([^']*)'", message)
        suggestion = did_you_mean((wrong[1] or wrong[2]).partition("=")[0], self.words()) if wrong else ""
        super().error(f"{message}{suggestion}")


def add_model(command: argparse.ArgumentParser) -> None:
    """Add MODEL."""
    command.add_argument("model", metavar="MODEL", help=f"one of {', '.join(MODEL_NAMES)}")


def add_recipe(command: argparse.ArgumentParser) -> None:
    """Add --recipe and the options that change a recipe."""
    command.add_argument(
        "--recipe", default="tutorial", metavar="NAME", help="the recipe: tutorial (the default), tuned or distilled"
    )
    command.add_argument("--seed", type=int, metavar="N", help="a seed that replaces the recipe's")
    command.add_argument(
        "--backbone-weights",
        metavar="WEIGHTS",
        help="initial weights of a transfer model's backbone: imagenet, none (drawn from the seed), or a weights file "
        "saved by Keras; default: the recipe's",
    )
    command.add_argument(
        "--held-out",
        action="store_true",
        help="hold out a tenth of the training images for validation, if the recipe trains on all of them",
    )


def add_checkpoints(command: argparse.ArgumentParser) -> None:
    """Add --checkpoints."""
    command.add_argument(
        "--checkpoints",
        type=Path,
        default=Path(".checkpoints"),
        metavar="FOLDER",
        help="folder of checkpoints, cached features and cached teachers' answers; default: .checkpoints",
    )


def add_data(command: argparse.ArgumentParser) -> None:
    """Add --data."""
    command.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="folder of the official CIFAR-10, binary or python version; without it, Keras downloads the data",
    )


def add_models(command: argparse.ArgumentParser) -> None:
    """Add --models."""
    command.add_argument(
        "--models",
        type=Path,
        default=Path("models"),
        metavar="FOLDER",
        help="folder of the published versions; default: models",
    )
