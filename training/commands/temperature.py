"""`python -m training temperature MODEL`: find the best temperature for a recipe's export."""

import argparse

from training.commands.arguments import add_checkpoints, add_data, add_model, add_models, add_recipe
from training.commands.data import add_pictures, load_data
from training.commands.fit import chosen_recipe


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.description = (
        "Trains by the recipe with a tenth of the images held out, and prints the temperature that calibrates the "
        "answers for those images best. Nothing is published; put the number into the recipe's field `temperature`."
    )
    add_model(command)
    add_recipe(command)
    add_checkpoints(command)
    add_data(command)
    add_pictures(command)
    add_models(command)


def run(arguments: argparse.Namespace) -> int:
    """Train, and print the calibration error before and after."""
    recipe = chosen_recipe(arguments)
    from training.allocation import keep_memory
    from training.checkpoint import Checkpoint
    from training.evaluate import calibration_error, cross_entropy
    from training.fit import answers_of, fit
    from training.progress import for_terminal
    from training.recipes import held_out
    from training.temperature import at_temperature, best_temperature

    keep_memory()
    recipe = held_out(recipe)
    data = load_data(arguments)
    checkpoint = Checkpoint(arguments.checkpoints, recipe, data.sha256)
    checkpoint.require_writable()
    with for_terminal() as progress:
        trained = fit(
            recipe,
            data,
            checkpoint=checkpoint,
            features_folder=arguments.checkpoints,
            models=arguments.models,
            progress=progress,
        )
    validation = trained.validation
    answers = answers_of(trained, validation)
    temperature = best_temperature(answers, validation.labels)
    print(f"{recipe.model}, {recipe.name}: {len(validation):,} held-out images, temperature {temperature:.2f}")
    for name, scaled in (("at 1", answers), (f"at {temperature:.2f}", at_temperature(answers, temperature))):
        print(
            f"  {name:7}  calibration error {calibration_error(scaled, validation.labels):.4f}, "
            f"loss {cross_entropy(scaled, validation.labels):.4f}"
        )
    return 0
