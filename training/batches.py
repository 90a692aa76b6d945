"""Batches for `fit`, in an order that is a pure function of the seed and the epoch.

Keras 3's `fit` on arrays repeats one and the same order in every epoch once `set_random_seed` was called
(docs/training.md shows it), which costs the small CNN four points and more. Here each epoch has its own order,
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
    an epoch may be smaller. `epoch_callback` goes into the same `fit`, which must not shuffle itself.

    Args:
        reshuffle: False repeats the first order in every epoch, as Keras 3 does.
    """

    def __init__(
        self, split: Split, preprocess: Preprocessing, *, batch_size: int, seed: int, reshuffle: bool = True
    ) -> None:
        super().__init__()
        self._split = split
        self._preprocess = preprocess
        self._batch_size = batch_size
        self._seed = seed
        self._reshuffle = reshuffle
        self.start_epoch(0)

    def __len__(self) -> int:
        return math.ceil(len(self._split) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        batch = self._split.take(chosen)
        return self._preprocess(batch.images), batch.labels

    def start_epoch(self, epoch: int) -> None:
        """Put the images into this epoch's order (0 and up)."""
        self._order = epoch_order(self._seed, epoch if self._reshuffle else 0, len(self._split))

    def epoch_callback(self) -> keras.callbacks.Callback:
        """Tells this data set which epoch begins.

        Keras' own `on_epoch_end` can't be counted for that: it is called once before the first epoch, too.
        """
        return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _logs: self.start_epoch(epoch))
