"""Turn a published version back into a trained model, to be exported at its recipe's current temperature.

Weights, history and provenance stay the same: nothing is trained, and no predicted class changes.
`training.commands.temperature` finds the temperature, `training.export` publishes.
"""

from pathlib import Path

from pydantic import ValidationError

from cifar10_serving.artifacts.metadata import ModelMetadata
from training.build import exported_network
from training.data import Dataset, split_rows
from training.environment import Environment
from training.errors import RecipeError
from training.fit import TrainedModel
from training.recipes import Recipe, get_recipe
from training.remeasure import read_to_measure
from training.saved_model import read_weights


def at_todays_temperature(folder: Path, data: Dataset) -> TrainedModel:
    """Return the version in a folder with the current temperature of its recipe.

    Raises:
        ArtifactError: the version is incomplete or damaged.
        DatasetError: the version was evaluated on other data.
        ExportError: its SavedModel contains another network.
        RecipeError: the version already has this temperature, or its recipe is not one of this project.
    """
    metadata = read_to_measure(folder, data)
    published = _recipe_of(metadata)
    temperature = get_recipe(published.name, published.model).temperature
    if temperature == published.temperature:
        raise RecipeError(
            f"{metadata.name} version {metadata.version} already has the temperature {temperature:g}",
            expected=f"a different temperature in the recipe {published.name} of {published.model}",
            remedy="find one with `python -m training temperature` and put it into the recipe",
        )
    recipe = published.model_copy(update={"temperature": temperature})
    model = exported_network(recipe, data.dimensions)
    read_weights(model, recipe.input_scaling, data.dimensions, folder)
    training_rows, validation_rows = split_rows(
        len(data.train), fraction=recipe.validation_fraction, seed=recipe.split_seed
    )
    run = metadata.training_run
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


def _recipe_of(metadata: ModelMetadata) -> Recipe:
    try:
        return Recipe.model_validate(metadata.recipe)
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"])) or "its fields"
        raise RecipeError(
            f"{metadata.name} version {metadata.version} has a recipe that can't be read: {field}: "
            f"{error.errors()[0]['msg']}",
            expected="a recipe of this project",
            remedy="recalibrate it with the code that published it",
        ) from None
