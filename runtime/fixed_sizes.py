"""Batches of a few fixed sizes, for a device that prepares every size anew before it computes it fast.

Which device that is, is its runtime's part; here a batch is cut and padded to the sizes that are prepared.
"""

from collections.abc import Callable, Iterator

import numpy as np

from runtime.base import Images, Probabilities


def batch_sizes(max_batch_rows: int) -> tuple[int, ...]:
    """The powers of two below `max_batch_rows`, and that itself: at most half of a padded batch is padding."""
    powers = (2**exponent for exponent in range(max_batch_rows.bit_length()))
    return (*(power for power in powers if power < max_batch_rows), max_batch_rows)


def compute_in_sizes(
    compute: Callable[[Images], Probabilities], images: Images, sizes: tuple[int, ...]
) -> Probabilities:
    """What `compute` answers for the images (batch, 32, 32, 3) uint8, called with batches of these sizes alone.

    Args:
        compute: answers (batch, 10) float32 for (batch, 32, 32, 3) uint8.
        sizes: ascending.
    """
    parts = [compute(padded)[:rows] for padded, rows in _padded(images, sizes)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _padded(images: Images, sizes: tuple[int, ...]) -> Iterator[tuple[Images, int]]:
    """Parts of the images, each of one of the sizes, and how many of its rows are not padding."""
    for start in range(0, len(images), sizes[-1]):
        part = images[start : start + sizes[-1]]
        size = next(size for size in sizes if size >= len(part))
        yield np.pad(part, ((0, size - len(part)), (0, 0), (0, 0), (0, 0))) if size > len(part) else part, len(part)
