"""Learning curves: one plot for each family of models and recipe."""

from typing import Any, Final

from training.report.figures import colours_of, new_figure, svg
from training.report.markdown import file_part, picture, plain
from training.report.sections.section import Section
from training.report.sections.tutorial import tutorial_of
from training.report.versions import SMALL_CNNS, TRANSFER_MODELS, Family, Published, PublishedVersion

REPRODUCED: Final = (SMALL_CNNS, TRANSFER_MODELS)


def learning_curves(published: Published) -> Section:
    """Plot loss and accuracy by epoch of the latest version of each model and recipe."""
    latest = [version for version in published.latest() if version.history]
    blocks = ["Loss and accuracy as Keras reported them during training. Dashed: training. Solid: validation."]
    plots: dict[str, str] = {}
    is_reproduced = any(tutorial_of(version) is not None for version in published.versions)
    for family in published.families():
        members = [version for version in latest if version.metadata.name in family.models]
        if not members and is_reproduced and family in REPRODUCED:
            blocks += [f"### {family.title}", "Not published."]
        for recipe in dict.fromkeys(version.recipe for version in members):
            shown = [version for version in members if version.recipe == recipe]
            name = f"learning_curves_{family.slug}_{file_part(recipe)}"
            plots[name] = svg(_figure(family, recipe, shown))
            keys = ", ".join(version.key for version in shown)
            blocks += [
                f"### {family.title}, recipe {plain(recipe)}",
                picture(f"Loss and accuracy by epoch of {keys}", name),
            ]
            unvalidated = [version for version in shown if not _has_validation(version)]
            if unvalidated:
                names = ", ".join(plain(version.metadata.title) for version in unvalidated)
                blocks.append(f"Trained on all training images, without validation: {names}.")
    return Section("Learning curves", blocks, plots)


def _has_validation(version: PublishedVersion) -> bool:
    return any(entry.val_loss is not None for entry in version.history)


def _figure(family: Family, recipe: str, versions: list[PublishedVersion]) -> Any:
    colours = colours_of(family.models)
    figure = new_figure(6.2, 7)
    loss_axes, accuracy_axes = figure.subplots(2, 1, sharex=True)
    for version in versions:
        colour, title = colours[version.metadata.name], version.metadata.title
        history = version.history
        epochs = [entry.epoch for entry in history]
        loss_axes.plot(epochs, [entry.loss for entry in history], "--", color=colour, label=f"{title}, training")
        accuracy_axes.plot(epochs, [entry.accuracy for entry in history], "--", color=colour)
        validated = [entry for entry in history if entry.val_loss is not None]
        if validated:
            epochs = [entry.epoch for entry in validated]
            loss_axes.plot(epochs, [entry.val_loss for entry in validated], color=colour, label=f"{title}, validation")
            accuracy_axes.plot(epochs, [entry.val_accuracy for entry in validated], color=colour)
    loss_axes.set(ylabel="cross-entropy", title="Loss")
    accuracy_axes.set(xlabel="epoch", ylabel="accuracy", title="Accuracy")
    for axes in (loss_axes, accuracy_axes):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    loss_axes.legend(fontsize=9)
    figure.suptitle(f"{family.title}, recipe {recipe}")
    return figure
