"""Batches for `fit`, in an order that is a pure function of seed and epoch.

After `set_random_seed`, Keras 3's `fit` on arrays repeats the same order in every epoch (see docs/training.md), which
costs the small CNN four percentage points or more. Here each epoch has its own order, and a run that resumes in epoch
12 sees the same batches as an uninterrupted one.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.data.dataset import Labels, StoredImages

Preprocessing = Callable[[Any, np.random.Generator], NDArray[np.float32]]
EpochData = Callable[[int], tuple[NDArray[Any], Labels | NDArray[np.float32]]]


def epoch_order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """Return the order of n images in an epoch (counted from 0): a permutation drawn from (seed, epoch) only."""
    return np.random.default_rng([seed, epoch]).permutation(n)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no type information
    """Batches of inputs in their order, with targets if there are any: only a batch at a time is in memory.

    Args:
        inputs: (n, …), possibly in a file.
        preprocess: converts a batch of them, without randomness.
        targets: of all n inputs.
        batch_size: the last batch may be smaller.
        rows: indices of the inputs to use; None uses all.
    """

    def __init__(
        self,
        inputs: StoredImages | NDArray[Any],
        preprocess: Callable[[Any], NDArray[np.float32]],
        targets: Labels | NDArray[np.float32] | None = None,
        *,
        batch_size: int,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__()
        self._inputs = inputs
        self._preprocess = preprocess
        self._targets = targets
        self._batch_size = batch_size
        self._rows = np.arange(len(inputs)) if rows is None else rows

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], ...]:
        chosen = self._rows[index * self._batch_size : (index + 1) * self._batch_size]
        scaled = self._preprocess(self._inputs[chosen])
        return (scaled,) if self._targets is None else (scaled, self._targets[chosen])


class ShuffledBatches(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no type information
    """Batches of inputs and targets, reshuffled in every epoch.

    A batch is the output of `preprocess`, (batch, …) float32, and its targets. The last batch of an epoch may be
    smaller. Pass `epoch_callback` to the same `fit`, with `shuffle=False`.

    Args:
        inputs: images (n, height, width, 3) uint8, or features (n, width) float32, possibly memory-mapped.
        targets: labels (n,) int64, or probabilities (n, classes) float32.
        preprocess: receives the batch's inputs and a generator seeded by seed, epoch and batch.
        reshuffle: False repeats the first order in every epoch, like Keras 3.
        rows: indices of the inputs to use; None uses all.
        of_epoch: returns the inputs and targets of an epoch (counted from 0), if they differ between epochs.
    """

    def __init__(
        self,
        inputs: StoredImages | NDArray[Any],
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
        """Switch to the order of this epoch (counted from 0)."""
        if self._of_epoch is not None and epoch != self._epoch:
            self._inputs, self._targets = self._of_epoch(epoch)
        self._epoch = epoch
        self._order = epoch_order(self._seed, epoch if self._reshuffle else 0, len(self._rows))

    def epoch_callback(self) -> keras.callbacks.Callback:
        """Return a callback that calls `start_epoch`.

        Counting calls of Keras' `on_epoch_end` doesn't work: it is also called once before the first epoch.
        """
        return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _logs: self.start_epoch(epoch))
