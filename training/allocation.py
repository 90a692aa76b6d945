"""Configure malloc to keep freed memory instead of returning it to the system after every training step.

TensorFlow frees a step's activations at the end of the step. glibc returns blocks of that size to the system, which has
to zero them when the next step allocates them again. That costs a tenth to a third of a step's time.
"""

from typing import Final

from cifar10_serving.runtimes.machine import M_ARENA_MAX, M_MMAP_MAX, M_TOP_PAD, M_TRIM_THRESHOLD, set_malloc

LARGEST_INT: Final = 2**31 - 1
TOP_PAD_BYTES: Final = 256 * 2**20


def keep_memory() -> None:
    """Configure glibc's malloc to keep freed memory; no effect with another C library. Call it early."""
    set_malloc({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: LARGEST_INT, M_TOP_PAD: TOP_PAD_BYTES, M_ARENA_MAX: 1})
