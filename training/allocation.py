"""How this process takes memory from the system: once, and not anew for every step of a training.

TensorFlow gives a step's activations back when it ends. glibc hands blocks of their size to the system, which has to
clear them when the next step takes them again: a tenth to a third of a step's time.
"""

from typing import Final

from cifar10_serving.runtimes.machine import M_ARENA_MAX, M_MMAP_MAX, M_TOP_PAD, M_TRIM_THRESHOLD, set_malloc

LARGEST_INT: Final = 2**31 - 1
TOP_PAD_BYTES: Final = 256 * 2**20


def keep_memory() -> None:
    """Tell glibc's malloc to keep what is freed; nothing happens where the C library is another. Call it early."""
    set_malloc({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: LARGEST_INT, M_TOP_PAD: TOP_PAD_BYTES, M_ARENA_MAX: 1})
