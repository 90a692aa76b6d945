"""How this process takes memory from the system: once, and not anew for every step of a training.

TensorFlow gives a step's activations back when it ends. glibc hands blocks of their size to the system, which has to
clear them when the next step takes them again: a tenth to a third of a step's time.
"""

import ctypes
import sys
from typing import Final

# Parameters of mallopt(3), from malloc.h.
M_TRIM_THRESHOLD: Final = -1
M_TOP_PAD: Final = -2
M_MMAP_MAX: Final = -4
M_ARENA_MAX: Final = -8
LARGEST_INT: Final = 2**31 - 1
TOP_PAD_BYTES: Final = 256 * 2**20


def keep_memory() -> None:
    """Tell glibc's malloc to keep what is freed; nothing happens where the C library is another. Call it early."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for parameter, value in (
        (M_MMAP_MAX, 0),
        (M_TRIM_THRESHOLD, LARGEST_INT),
        (M_TOP_PAD, TOP_PAD_BYTES),
        (M_ARENA_MAX, 1),
    ):
        mallopt(parameter, value)
