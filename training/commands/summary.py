"""`python -m training summary MODEL`: the layers of a network, their parameters and how the image shrinks."""

import argparse

from training.commands.arguments import add_model, add_recipe


def add(command: argparse.ArgumentParser) -> None:
    """The options."""
    add_model(command)
    add_recipe(command)


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    from training.commands.fit import chosen_recipe
    from training.summary import summarize

    print(summarize(chosen_recipe(arguments)))
    return 0
