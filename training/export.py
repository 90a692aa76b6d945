"""Publish a trained model as a version; `training.publishing` measures and publishes."""

from pathlib import Path

from cifar10_serving.artifacts.metadata import Dataset as DatasetRecord
from cifar10_serving.artifacts.metadata import ModelMetadata, SplitName, TrainingRun
from cifar10_serving.runtimes.base import Probabilities
from training.cifar10 import MODEL_NAMES, identity
from training.data.dataset import Dataset, Split
from training.fit import TrainedModel, answers_of
from training.own_architectures import find
from training.provenance import git_commit, package_versions
from training.published import Name
from training.publishing import Described, publish_version
from training.recipes import Recipe
from training.saved_model import signatures, write_saved_model
from training.temperature import at_temperature


def export(
    trained: TrainedModel, data: Dataset, models: Path, *, command: str, name: Name | None = None
) -> ModelMetadata:
    """Publish a trained model as the next version of its name below `models`.

    Args:
        trained: the model and its run.
        data: the artifact is evaluated on its test split.
        models: the folder of the published versions.
        command: repeats the run; stored in the metadata.
        name: the name and title to publish as; None for those of one of the six models.

    Raises:
        ExportError: the artifact's answers differ from the Keras model's.
        PublishError: the folder can't be written to; nothing is left behind.
    """
    temperature = trained.recipe.temperature

    def write(folder: Path) -> None:
        write_saved_model(trained.model, trained.recipe.input_scaling, data.dimensions, folder, temperature=temperature)

    def answers(split: Split) -> Probabilities:
        return at_temperature(answers_of(trained, split), temperature)

    splits: dict[SplitName, Split] = {"test": data.test, "validation": trained.validation}
    return publish_version(
        models, _described(trained, data, command, name), write=write, answers=answers, golden=data.test, splits=splits
    )


def _described(trained: TrainedModel, data: Dataset, command: str, name: Name | None) -> Described:
    recipe = trained.recipe
    own = find(recipe.model) if recipe.model not in MODEL_NAMES else None
    chosen = name or (Name.checked(own.name, title=own.title) if own else Name.of_the_six(recipe.model))
    return Described(
        name=chosen.name,
        title=chosen.title,
        architecture=own.description if own else identity(recipe.model).architecture,
        recipe=recipe.published(),
        parameters=trained.parameters,
        signatures=signatures(data.dimensions),
        labels=data.labels,
        training=TrainingRun(
            seed=recipe.seed,
            started_at=trained.started_at,
            wall_time_s=trained.wall_time_s,
            hardware=trained.environment.hardware,
            git_commit=git_commit(),
            command=command,
            versions=package_versions() | trained.environment.versions,
            backbone_sha256=trained.backbone_sha256,
            history=trained.history,
        ),
        dataset=DatasetRecord(
            name=data.name,
            source=data.source,
            sha256=data.sha256,
            train=trained.train_n,
            validation=len(trained.validation),
            test=len(data.test),
            split=_split(recipe, data),
        ),
    )


def _split(recipe: Recipe, data: Dataset) -> str:
    if recipe.validation_fraction == 0:
        validation = "none: every training image trains"
    else:
        validation = (
            f"sklearn.model_selection.train_test_split(test_size={recipe.validation_fraction}, "
            f"random_state={recipe.split_seed})"
        )
    return f"{validation}; test images: {data.test_split}" if data.test_split else validation
