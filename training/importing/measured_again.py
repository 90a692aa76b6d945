"""The test pictures that an imported version was measured on, for `python -m training evaluate`."""

from pathlib import Path

import numpy as np

from cifar10_serving.artifacts.metadata import ModelMetadata
from training.data.dataset import Dataset
from training.data.pictures import load_test_split
from training.importing.scalings import trial_rows
from training.progress import Progress


def pictures_of(metadata: ModelMetadata, place: Path, cache: Path, progress: Progress) -> Dataset:
    """Return the pictures of a folder or CSV file as an imported version was measured on them.

    Without those that chose the scaling.

    Raises:
        DatasetError: there are no pictures, or a folder is none of the labels.
        CheckpointError: the cache can't be written.
    """
    split, sha256 = load_test_split(
        place, labels=metadata.labels, input_shape=metadata.input_shape, cache=cache, progress=progress
    )
    rows = np.arange(len(split))
    if metadata.imported is not None and metadata.imported.scalings and len(split) > 1:
        rows = trial_rows(split.labels)[1]
    return Dataset(
        name=metadata.measured_data.name,
        labels=tuple(metadata.labels),
        train=split.take(rows[:0]),
        test=split.take(rows),
        source=metadata.measured_data.source,
        sha256=sha256,
    )
