"""The plot of the report: requests/s of each server as a multiple of plain FastAPI's, one panel per model."""

import math
from pathlib import Path
from typing import Final

from bench.measurements import Results
from bench.ratios import median, over_rounds, rate_to_baseline
from bench.servers import SERVERS
from bench.titles import titles

COLUMNS: Final = 3
PANEL_INCHES: Final = (3.6, 2.9)
COLOURS: Final = ("#0072b2", "#56b4e9", "#000000", "#7f7f7f", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
"""Okabe and Ito's palette for colour-blind readers; our servers are blue."""


def plot_rates(results: Results, file: Path) -> bool:
    """Write the SVG, deterministically; return False if there is nothing to plot."""
    lines = {
        model: {name: points for name in results.servers if (points := _points(results, name, model))}
        for model in results.models
    }
    if not any(lines.values()):
        return False
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 8}):
        _draw(results, lines, file)
    return True


def _draw(results: Results, lines: dict[str, dict[str, dict[int, float]]], file: Path) -> None:
    from matplotlib import pyplot as plt

    columns = min(COLUMNS, len(lines))
    rows = math.ceil(len(lines) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows + 0.5), squeeze=False, sharey=True
    )
    colours = dict(zip((name for name, server in SERVERS.items() if server.serves_models), COLOURS, strict=True))
    title_of = titles(lines)
    for panel, (model, servers) in zip(axes.flat, lines.items(), strict=False):
        for name, points in servers.items():
            places = [results.concurrency.index(concurrency) for concurrency in points]
            panel.plot(places, list(points.values()), marker="o", markersize=3, color=colours[name], label=name)
        panel.set_title(title_of[model])
        panel.set_yscale("log", base=2)
        panel.yaxis.set_major_formatter(lambda value, _position: f"{value:g}")
        panel.set_xticks(range(len(results.concurrency)), [str(concurrency) for concurrency in results.concurrency])
        panel.set_xlabel("concurrency")
        panel.grid(alpha=0.3)
    for panel in list(axes.flat)[len(lines) :]:
        panel.remove()
    for row in axes:
        row[0].set_ylabel("requests/s, times plain FastAPI's")
    found = {name: None for servers in lines.values() for name in servers}
    handles = [plt.Line2D([], [], color=colours[name], marker="o", label=SERVERS[name].title) for name in found]
    figure.legend(handles=handles, loc="lower center", ncols=min(4, len(handles)), frameon=False)
    figure.tight_layout(rect=(0, 0.9 / (PANEL_INCHES[1] * rows + 0.5) * 0.6, 1, 1))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, format="svg", metadata={"Date": None})
    plt.close(figure)


def _points(results: Results, name: str, model: str) -> dict[int, float]:
    """Map each concurrency with answers to the median of the rounds' ratios."""
    if not SERVERS[name].serves_models:
        return {}
    found = {
        concurrency: median(over_rounds(results, rate_to_baseline(name, model, concurrency)))
        for concurrency in results.concurrency
    }
    return {concurrency: value for concurrency, value in found.items() if value}
