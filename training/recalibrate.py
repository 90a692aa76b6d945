"""A published version as a trained model again, to be exported at the temperature that its recipe has now.

Weights, history and where they came from stay what they are: nothing is trained, and no class changes. Finding the
temperature is `training.commands.temperature`'s part, publishing `training.export`'s.
"""

from pathlib import Path

from training.build import exported_network
from training.data import Cifar10, split_rows
from training.environment import Environment
from training.errors import RecipeError
from training.fit import TrainedModel
from training.recipes import Recipe, get_recipe
from training.remeasure import read_to_measure
from training.saved_model import read_weights


def at_todays_temperature(folder: Path, data: Cifar10) -> TrainedModel:
    """The version in a folder, with the temperature that the recipe of its name has now.

    Raises:
        ArtifactError: the version is not whole.
        DatasetError: the data is not what it was evaluated on.
        ExportError: its SavedModel holds another network.
        RecipeError: it has this temperature already.
    """
    metadata = read_to_measure(folder, data)
    published = Recipe.model_validate(metadata.recipe)
    temperature = get_recipe(published.name, published.model).temperature
    if temperature == published.temperature:
        raise RecipeError(
            f"{metadata.name} version {metadata.version} has the temperature {temperature:g} already",
            expected=f"another temperature in the recipe {published.name} of {published.model}",
            remedy="find one with `python -m training temperature`, and put it into the recipe",
        )
    recipe = published.model_copy(update={"temperature": temperature})
    model = exported_network(recipe)
    read_weights(model, recipe.input_scaling, folder)
    training_rows, validation_rows = split_rows(
        len(data.train), fraction=recipe.validation_fraction, seed=recipe.split_seed
    )
    run = metadata.training
    return TrainedModel(
        recipe=recipe,
        model=model,
        history=run.history,
        started_at=run.started_at,
        wall_time_s=run.wall_time_s,
        train_n=len(training_rows),
        validation=data.train.take(validation_rows),
        parameters=metadata.parameters,
        environment=Environment(run.hardware, run.versions),
        backbone_sha256=run.backbone_sha256,
    )
