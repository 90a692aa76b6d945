"""Accuracy against cost: parameters, bytes, and milliseconds per image on the machine that wrote the page."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from training.cifar10 import TUTORIAL_RESULTS, identity
from training.provenance import hardware
from training.report.figures import COLOURS, colours_of, new_figure, svg
from training.report.latency import BATCHES, CALLS_A_ROUND, ROUND_DURATION_S, ROUNDS, Latency, MeasuredLatencies
from training.report.markdown import Column, code, items, picture, plain, table
from training.report.sections.section import Section
from training.report.sections.tutorial import tutorial_of
from training.report.versions import TRANSFER_MODELS, TUTORIAL, Published, PublishedVersion


def accuracy_against_cost(published: Published, latencies: MeasuredLatencies) -> Section:
    """Build the table and plots of the latest version of each model and recipe."""
    latest = published.latest()
    how = (
        f"`python -m training report` measured the milliseconds per image on {plain(hardware())}, with "
        f"{latencies.runtime} in float32, for single images and for batches of {BATCHES[-1]}: the median over {ROUNDS} "
        f"rounds through all versions, with at least {CALLS_A_ROUND} calls and {ROUND_DURATION_S} s per round; "
        "quartiles in brackets. This is inference alone, without HTTP and decoding."
    )
    pictures = [
        picture("Test accuracy against parameters", "accuracy_parameters"),
        picture("Test accuracy against milliseconds per image", "accuracy_latency"),
    ]
    blocks = [how, table(_columns(latencies), latest), "\n".join(pictures)]
    if latencies.failures:
        blocks += [
            "Not measured:",
            items([f"{code(key)}: {plain(reason)}" for key, reason in latencies.failures.items()]),
        ]
    plots = {
        "accuracy_parameters": svg(_parameters_figure(latest)),
        "accuracy_latency": svg(_latency_figure(latest, latencies)),
    }
    return Section("Accuracy against cost", blocks, plots)


def _columns(latencies: MeasuredLatencies) -> list[Column[PublishedVersion]]:
    return [
        Column("version", lambda version: code(version.key), numeric=False),
        Column("recipe", lambda version: plain(version.recipe), numeric=False),
        Column("test accuracy", lambda version: f"{version.test.accuracy:.4f}"),
        Column("parameters", lambda version: f"{version.metadata.parameters.total:,}"),
        Column("`saved_model.pb`, MB", lambda version: f"{version.metadata.export.size_bytes / 1e6:.2f}"),
        *(
            Column(
                "ms per image, single" if batch == 1 else f"ms per image, batch of {batch}",
                partial(_cell, latencies=latencies, batch=batch),
            )
            for batch in BATCHES
        ),
    ]


def _cell(version: PublishedVersion, latencies: MeasuredLatencies, batch: int) -> str:
    latency = _latency(version, latencies, batch)
    if latency is None:
        return "not measured"
    return f"{latency.median_ms:.3g} ({latency.lower_quartile_ms:.3g} to {latency.upper_quartile_ms:.3g})"


def _latency(version: PublishedVersion, latencies: MeasuredLatencies, batch: int) -> Latency | None:
    entries = latencies.by_version.get(version.key, ())
    return next((entry for entry in entries if entry.batch == batch), None)


def _parameters_figure(versions: list[PublishedVersion]) -> Any:
    points = [(version, version.metadata.parameters.total / 1e6) for version in versions]
    figure, axes = _scatter("parameters", "parameters, millions", points)
    reproduced = TUTORIAL_RESULTS if any(tutorial_of(version) is not None for version in versions) else {}
    for name, result in reproduced.items():
        place = (result.parameters / 1e6, result.test_accuracy)
        axes.scatter(*place, s=70, facecolors="none", edgecolors=COLOURS[name])
        if name in TRANSFER_MODELS.models:
            axes.annotate(identity(name).title, place, (0, 8), textcoords="offset points", ha="center", fontsize=9)
    if reproduced:
        axes.scatter([], [], s=70, facecolors="none", edgecolors="grey", label="the tutorial's results")
    _finish(figure, axes)
    return figure


def _latency_figure(versions: list[PublishedVersion], latencies: MeasuredLatencies) -> Any:
    measured = [(version, _latency(version, latencies, 1)) for version in versions]
    points = [(version, latency.median_ms) for version, latency in measured if latency is not None]
    figure, axes = _scatter("milliseconds", "milliseconds per image, single", points)
    _finish(figure, axes)
    return figure


def _scatter(cost: str, label: str, points: Sequence[tuple[PublishedVersion, float]]) -> tuple[Any, Any]:
    colours = colours_of(version.metadata.name for version, _ in points)
    figure = new_figure(5.6, 5)
    axes = figure.subplots()
    axes.set(xscale="log", xlabel=label, ylabel="test accuracy", title=f"Accuracy against {cost}")
    for version, value in points:
        axes.scatter(
            value,
            version.test.accuracy,
            s=70,
            color=colours[version.metadata.name],
            marker="o" if version.recipe == TUTORIAL else "s",
            label=f"{version.metadata.title} ({version.recipe})",
        )
    return figure, axes


def _finish(figure: Any, axes: Any) -> None:
    # Wide enough for a round number on the axis, even if the points are close together.
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    axes.set_xlim(left / 2, right * 2)
    axes.set_ylim(max(0.0, bottom - 0.05), min(1.0, top + 0.05))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
