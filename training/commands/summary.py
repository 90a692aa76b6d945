"""`python -m training summary MODEL`: show a network's layers, parameters and output shapes."""

import argparse

from training.commands.arguments import add_model, add_recipe


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_model(command)
    add_recipe(command)


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    from training.commands.fit import chosen_recipe
    from training.data import CIFAR_DIMENSIONS
    from training.summary import summarize

    print(summarize(chosen_recipe(arguments), CIFAR_DIMENSIONS))
    return 0
