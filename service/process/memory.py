"""What a process that serves does with its memory: gives back what unloaded versions had, and seldom looks for garbage.

glibc maps blocks from 128 KiB on by themselves, and unmaps them when they are freed. But each such free moves
that limit up, to 32 MiB at last: from then on weights lie in the heap among longer-lived blocks, and the holes
that they leave are not given back. Setting the limit keeps it where it is.
https://man7.org/linux/man-pages/man3/mallopt.3.html, M_MMAP_THRESHOLD
"""

import gc
from typing import Final

from cifar10_serving.runtimes.machine import M_MMAP_THRESHOLD, set_malloc

MMAP_THRESHOLD_BYTES: Final = 128 * 1024
YOUNG_OBJECTS: Final = 20_000
"""So many more objects than there were are looked through; Python's own 700 are those of a few requests in flight."""


def configure_malloc() -> bool:
    """Keep glibc's limit; whether this C library has one."""
    return set_malloc({M_MMAP_THRESHOLD: MMAP_THRESHOLD_BYTES})


def freeze_gc() -> None:
    """Leave out of every later collection what is there now, and collect less often; call it before serving.

    Requests end without cycles, so that reference counts free what they had; what errors leave is still collected.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
