"""Colours and SVG output of the report's plots; the same figure always gives the same file."""

from collections.abc import Iterable
from io import StringIO
from itertools import cycle
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

COLOURS: Final[dict[str, str]] = {
    "sequential": "#0072b2",
    "functional": "#e69f00",
    "subclassing": "#009e73",
    "vgg16": "#d55e00",
    "mobilenetv2": "#cc79a7",
    "resnet50v2": "#5b4b9a",
}
"""Distinguishable with any colour vision (Okabe and Ito 2008, except the last)."""
OTHER_COLOURS: Final = ("#56b4e9", "#000000", "#8c564b", "#7f7f7f", "#17becf", "#bcbd22")
"""For all other models, in the order of their names."""


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each model."""
    others = sorted(set(names).difference(COLOURS))
    return COLOURS | dict(zip(others, cycle(OTHER_COLOURS), strict=False))


def new_figure(width_inches: float, height_inches: float) -> Any:
    """Create an empty figure with a white background, which is readable on light and dark pages."""
    return Figure(figsize=(width_inches, height_inches), layout="constrained", facecolor="white")


def svg(figure: Any) -> str:
    """Render a figure as an SVG document, deterministically."""
    buffer = StringIO()
    with mpl.rc_context({"svg.hashsalt": "cifar10-serving"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
