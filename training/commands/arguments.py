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
    """Add MODEL and --architecture."""
    command.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help=f"one of {', '.join(MODEL_NAMES)}, or an architecture registered in training/architectures/",
    )
    add_architecture(command)


def add_architecture(command: argparse.ArgumentParser) -> None:
    """Add --architecture."""
    command.add_argument(
        "--architecture",
        metavar="FILE.py:FUNCTION",
        help="instead of MODEL: a function in a Python file, which is run; docs/own-models.md shows one",
    )


def add_recipe(command: argparse.ArgumentParser) -> None:
    """Add --recipe and the options that change a recipe."""
    command.add_argument(
        "--recipe",
        metavar="NAME",
        help="the recipe: tutorial (the default for CIFAR-10), tuned (the default for all else) or distilled",
    )
    command.add_argument("--seed", type=int, metavar="N", help="a seed that replaces the recipe's")
    for option, kind, what in (
        ("--epochs", int, "number of epochs"),
        ("--batch-size", int, "images in a training step"),
        ("--learning-rate", float, "peak learning rate"),
        ("--weight-decay", float, "weight decay"),
    ):
        command.add_argument(option, type=kind, metavar="N", help=f"{what}; default: the recipe's")
    command.add_argument(
        "--precision",
        choices=["float32", "mixed_bfloat16"],
        help="of training; float32 is faster on a processor without bfloat16 instructions; default: the recipe's",
    )
    command.add_argument(
        "--no-flip", action="store_true", help="don't mirror training images, where left and right matter"
    )
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
        help="a folder with a folder of pictures for each class, or with such folders in train/ and test/; a CSV file "
        "with the columns file and label; or the official CIFAR-10, which Keras downloads without this option",
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
