"""`python -m training temperature MODEL`: finds the temperature that a recipe should export its model at."""

import argparse
from typing import Final

from training.commands.arguments import add_checkpoints, add_data, add_model, add_recipe
from training.commands.fit import chosen_recipe

HELD_OUT: Final = 0.1


def add(command: argparse.ArgumentParser) -> None:
    """The options."""
    command.description = (
        "Trains by the recipe, with a tenth of the images held out, and says at which temperature the answers for "
        "those are calibrated best. Nothing is published: the recipe's field `temperature` takes the number."
    )
    add_model(command)
    add_recipe(command)
    add_checkpoints(command)
    add_data(command)


def run(arguments: argparse.Namespace) -> int:
    """Train, and print the calibration before and after."""
    recipe = chosen_recipe(arguments)
    from training.allocation import keep_memory
    from training.checkpoint import Checkpoint
    from training.data import load_cifar10
    from training.evaluate import calibration_error, cross_entropy
    from training.fit import answers_of, fit
    from training.progress import for_terminal
    from training.temperature import at_temperature, best_temperature

    keep_memory()
    if not recipe.validation_fraction:
        recipe = recipe.model_copy(update={"validation_fraction": HELD_OUT})
    data = load_cifar10(arguments.data)
    checkpoint = Checkpoint(arguments.checkpoints, recipe, data.sha256)
    checkpoint.require_writable()
    with for_terminal() as progress:
        trained = fit(
            recipe, data.train, checkpoint=checkpoint, features_folder=arguments.checkpoints, progress=progress
        )
    held_out = trained.validation
    answers = answers_of(trained, held_out)
    temperature = best_temperature(answers, held_out.labels)
    print(f"{recipe.model}, {recipe.name}: {len(held_out):,} images held out, temperature {temperature:.2f}")
    for name, scaled in (("at 1", answers), (f"at {temperature:.2f}", at_temperature(answers, temperature))):
        print(
            f"  {name:7}  calibration error {calibration_error(scaled, held_out.labels):.4f}, "
            f"loss {cross_entropy(scaled, held_out.labels):.4f}"
        )
    return 0
