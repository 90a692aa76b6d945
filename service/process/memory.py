"""Memory of a serving process: return the memory of unloaded versions to the system, and collect garbage rarely.

glibc maps blocks of 128 KiB and more separately, and unmaps them when they are freed. But each such free raises that
threshold, up to 32 MiB. From then on weights are allocated in the heap among longer-lived blocks, and the holes that
they leave are not returned. Setting the threshold explicitly keeps it constant.
https://man7.org/linux/man-pages/man3/mallopt.3.html, M_MMAP_THRESHOLD
"""

import gc
from typing import Final

from cifar10_serving.runtimes.machine import M_MMAP_THRESHOLD, set_malloc

MMAP_THRESHOLD_BYTES: Final = 128 * 1024
YOUNG_OBJECTS: Final = 20_000
"""Number of new objects before a collection. Python's default of 700 is reached by a few requests in flight."""


def configure_malloc() -> bool:
    """Keep glibc's threshold constant; return whether the C library has one."""
    return set_malloc({M_MMAP_THRESHOLD: MMAP_THRESHOLD_BYTES})


def freeze_gc() -> None:
    """Exclude all current objects from later collections, and collect less often; call it before serving.

    Requests leave no reference cycles, so reference counting frees them. Cycles left by errors are still collected.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
