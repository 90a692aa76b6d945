"""What the report's plots have in common: colours, markers, and SVG that is the same whenever it is drawn again."""

from io import StringIO
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from cifar10_serving.artifacts.labels import ModelName

COLOURS: Final[dict[ModelName, str]] = {
    "sequential": "#0072b2",
    "functional": "#e69f00",
    "subclassing": "#009e73",
    "vgg16": "#d55e00",
    "mobilenetv2": "#cc79a7",
    "resnet50v2": "#5b4b9a",
}
"""Told apart with any colour vision (Okabe and Ito 2008, but for the last)."""


def new_figure(width_inches: float, height_inches: float) -> Any:
    """An empty figure on white, which both a light and a dark page can show."""
    return Figure(figsize=(width_inches, height_inches), layout="constrained", facecolor="white")


def svg(figure: Any) -> str:
    """The figure as an SVG document; the same figure gives the same text."""
    buffer = StringIO()
    with mpl.rc_context({"svg.hashsalt": "cifar10-serving"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
