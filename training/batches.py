"""Batches for `fit`, in an order that is a pure function of the seed and the epoch.

Keras 3's `fit` on arrays repeats one and the same order in every epoch once `set_random_seed` was called
(docs/training.md shows it), which costs the small CNN four to five points. Here each epoch has its own order,
so a run that resumes in epoch 12 sees the batches that an uninterrupted one would have seen.
"""

import math
from collections.abc import Callable

import keras
import numpy as np
from numpy.typing import NDArray

from training.data import Split

Preprocessing = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def epoch_order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The order of n images in an epoch (0 and up): a permutation drawn from (seed, epoch) alone."""
    return np.random.default_rng([seed, epoch]).permutation(n)


class ShuffledBatches(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no type information
    """The images of a split in batches, shuffled anew in every epoch.

    A batch is (batch, 32, 32, 3) float32, as `preprocess` gives it, and (batch,) int64 labels; the last one of
    an epoch may be smaller.

    Args:
        first_epoch: the epoch that the first pass over the data stands for.
        reshuffle: False repeats the first order in every epoch, as Keras 3 does.
    """

    def __init__(
        self,
        split: Split,
        preprocess: Preprocessing,
        *,
        batch_size: int,
        seed: int,
        first_epoch: int = 0,
        reshuffle: bool = True,
    ) -> None:
        super().__init__()
        self._split = split
        self._preprocess = preprocess
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = first_epoch
        self._reshuffle = reshuffle
        self._order = epoch_order(seed, first_epoch, len(split))

    def __len__(self) -> int:
        return math.ceil(len(self._split) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        batch = self._split.take(chosen)
        return self._preprocess(batch.images), batch.labels

    def on_epoch_end(self) -> None:
        """Called by Keras after each epoch: draw the next one's order."""
        self._epoch += 1
        if not self._reshuffle:
            return
        self._order = epoch_order(self._seed, self._epoch, len(self._split))
