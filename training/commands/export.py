"""`python -m training export MODEL`: publishes a run that has trained all its epochs and was not published."""

import argparse

from training.commands.arguments import add_checkpoints, add_data, add_model, add_models, add_recipe
from training.commands.describe import describe_published
from training.commands.fit import chosen_recipe, command_line


def add(command: argparse.ArgumentParser) -> None:
    """The options; the same as those of the run."""
    add_model(command)
    add_recipe(command)
    add_checkpoints(command)
    add_data(command)
    add_models(command)


def run(arguments: argparse.Namespace) -> int:
    """Publish from the kept state; training nothing, and leaving the state where it is."""
    recipe = chosen_recipe(arguments)
    from training.backend import require_tensorflow
    from training.checkpoint import Checkpoint
    from training.data import load_cifar10
    from training.errors import CheckpointError
    from training.fit import fit

    require_tensorflow("exporting")
    from training.export import export

    data = load_cifar10(arguments.data)
    checkpoint = Checkpoint(arguments.checkpoints, recipe, data.sha256)
    done = checkpoint.epochs_done()
    if done < recipe.epochs:
        raise CheckpointError(
            f"{done} of {recipe.epochs} epochs of this run are done in {arguments.checkpoints}",
            expected="a run with all its epochs, by this recipe, seed and data",
            remedy=f"{command_line(recipe, arguments.data)} --checkpoints {arguments.checkpoints}",
        )
    trained = fit(recipe, data.train, checkpoint=checkpoint, features_folder=arguments.checkpoints)
    metadata = export(trained, data, arguments.models, command=command_line(recipe, arguments.data))
    print(describe_published(metadata, arguments.models))
    print(f"the state stays in {checkpoint.file}")
    return 0
