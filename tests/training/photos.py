"""Small generated pictures in class folders."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"daisy": (250, 250, 240), "moss": (40, 120, 30), "rose": (200, 20, 60), "sky": (90, 160, 250)}


def write_photos(folder: Path, counts: Mapping[str, int], *, size: tuple[int, int] = (40, 30), first: int = 0) -> None:
    """Write so many different pictures of each label into a folder of its name, each in its label's colour."""
    for label, count in counts.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            noise = np.random.default_rng([number, len(label)]).integers(-30, 30, (size[1], size[0], 3))
            pixels = np.clip(noise + COLOURS[label], 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number:03}.png")
