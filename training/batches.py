"""Batches for `fit`, in an order that is a pure function of the seed and the epoch.

Keras 3's `fit` on arrays repeats one and the same order in every epoch once `set_random_seed` was called
(docs/training.md shows it), which costs the small CNN four points and more. Here each epoch has its own order,
so a run that resumes in epoch 12 sees the batches that an uninterrupted one would have seen.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.data import Labels

Preprocessing = Callable[[Any, np.random.Generator], NDArray[np.float32]]
EpochData = Callable[[int], tuple[NDArray[Any], Labels | NDArray[np.float32]]]


def epoch_order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The order of n images in an epoch (0 and up): a permutation drawn from (seed, epoch) alone."""
    return np.random.default_rng([seed, epoch]).permutation(n)


class ShuffledBatches(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no type information
    """Inputs and labels in batches, shuffled anew in every epoch.

    A batch is (batch, …) float32 as `preprocess` gives it, and its labels; the last one of an epoch may be smaller.
    `epoch_callback` goes into the same `fit`, which must not shuffle itself.

    Args:
        inputs: images (n, 32, 32, 3) uint8, or features (n, width) float32, perhaps memory-mapped.
        targets: labels (n,) int64, or probabilities (n, 10) float32.
        preprocess: gets the chosen inputs, and a generator drawn from seed, epoch and batch alone.
        reshuffle: False repeats the first order in every epoch, as Keras 3 does.
        rows: which of the inputs are meant; None takes all.
        of_epoch: gives the inputs and targets of an epoch (0 and up), where each has its own.
    """

    def __init__(
        self,
        inputs: NDArray[Any],
        targets: Labels | NDArray[np.float32],
        preprocess: Preprocessing,
        *,
        batch_size: int,
        seed: int,
        reshuffle: bool = True,
        rows: NDArray[np.int64] | None = None,
        of_epoch: EpochData | None = None,
    ) -> None:
        super().__init__()
        self._inputs = inputs
        self._targets = targets
        self._preprocess = preprocess
        self._batch_size = batch_size
        self._seed = seed
        self._reshuffle = reshuffle
        self._of_epoch = of_epoch
        self._rows = np.arange(len(targets)) if rows is None else rows
        self._epoch = -1
        self.start_epoch(0)

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], Labels | NDArray[np.float32]]:
        chosen = self._rows[self._order[index * self._batch_size : (index + 1) * self._batch_size]]
        random = np.random.default_rng([self._seed, self._epoch, index])
        return self._preprocess(self._inputs[chosen], random), self._targets[chosen]

    def start_epoch(self, epoch: int) -> None:
        """Put the inputs into this epoch's order (0 and up)."""
        if self._of_epoch is not None and epoch != self._epoch:
            self._inputs, self._targets = self._of_epoch(epoch)
        self._epoch = epoch
        self._order = epoch_order(self._seed, epoch if self._reshuffle else 0, len(self._rows))

    def epoch_callback(self) -> keras.callbacks.Callback:
        """Tells this data set which epoch begins.

        Keras' own `on_epoch_end` can't be counted for that: it is called once before the first epoch, too.
        """
        return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _logs: self.start_epoch(epoch))
