"""Draw a grid of sample images of the data set, as in the tutorial."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from training.data import Split
from training.errors import PictureError

mpl.use("agg")

SIDE: Final = 5
SUFFIXES: Final = (".svg", ".png")


def write_sample_images(split: Split, labels: Sequence[str], file: Path) -> None:
    """Write the first 25 images of a split with their class names, as SVG or PNG depending on the suffix.

    Args:
        split: the images.
        labels: names of the classes.
        file: ends in .svg or .png.

    Raises:
        PictureError: the suffix is not supported, or the file can't be written.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise PictureError(
            f"can't write an image to '{file}'", expected=f"a file name ending in {' or '.join(SUFFIXES)}"
        )
    figure, grid = plt.subplots(SIDE, SIDE, figsize=(8, 9))
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, label in zip(grid.flat, split.images[: SIDE**2], split.labels, strict=False):
        axes.imshow(image, interpolation="nearest")
        axes.set_title(labels[label], fontsize=10)
    try:
        with mpl.rc_context({"svg.hashsalt": "cifar10-serving"}):
            figure.savefig(file, bbox_inches="tight", metadata={"Date": None} if file.suffix.lower() == ".svg" else {})
    except OSError as error:
        raise PictureError(f"can't write {file}: {error.strerror}", expected="a writable folder") from None
    finally:
        plt.close(figure)
