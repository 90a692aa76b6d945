"""The plot of the report: requests/s of each server as a multiple of plain FastAPI's, one panel per model."""

import math
from pathlib import Path
from typing import Any, Final

from bench.measurements import Results
from bench.ratios import median, over_rounds, rate_to_baseline
from bench.servers import SERVERS
from bench.titles import titles

COLUMNS: Final = 3
PANEL_INCHES: Final = (3.6, 2.9)
LEGEND_LINE_INCHES: Final = 0.17
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#000000", "#e69f00", "#56b4e9", "#cc79a7")
"""Okabe and Ito's palette for colour-blind readers, a colour for each product; ours is blue."""
STYLES: Final = ("-", "--", ":", "-.", (0, (1, 3)), (0, (5, 5)), (0, (3, 1, 1, 1)))
"""A line style for each variant of a product."""


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
    found = {name: None for servers in lines.values() for name in servers}
    legend_inches = LEGEND_LINE_INCHES * (math.ceil(len(found) / columns) + 1)
    height_inches = PANEL_INCHES[1] * rows + legend_inches
    figure, axes = plt.subplots(
        rows, columns, figsize=(PANEL_INCHES[0] * columns, height_inches), squeeze=False, sharey=True
    )
    looks = _looks()
    title_of = titles(lines)
    for panel, (model, servers) in zip(axes.flat, lines.items(), strict=False):
        for name, points in servers.items():
            places = [results.concurrency.index(concurrency) for concurrency in points]
            panel.plot(places, list(points.values()), marker="o", markersize=3, label=name, **looks[name])
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
    handles = [plt.Line2D([], [], marker="o", label=SERVERS[name].title, **looks[name]) for name in found]
    figure.legend(handles=handles, loc="lower center", ncols=columns, frameon=False)
    figure.tight_layout(rect=(0, legend_inches / height_inches, 1, 1))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, format="svg", metadata={"Date": None})
    plt.close(figure)


def _looks() -> dict[str, dict[str, Any]]:
    """Return the colour and the line style of each server."""
    products: dict[str, list[str]] = {}
    for name, server in SERVERS.items():
        if server.serves_models:
            products.setdefault(server.title.partition(",")[0], []).append(name)
    return {
        name: {"color": colour, "linestyle": style}
        for colour, names in zip(COLOURS, products.values(), strict=True)
        for name, style in zip(names, STYLES, strict=False)
    }


def _points(results: Results, name: str, model: str) -> dict[int, float]:
    """Map each concurrency with answers to the median of the rounds' ratios."""
    if not SERVERS[name].serves_models:
        return {}
    found = {
        concurrency: median(over_rounds(results, rate_to_baseline(name, model, concurrency)))
        for concurrency in results.concurrency
    }
    return {concurrency: value for concurrency, value in found.items() if value}
