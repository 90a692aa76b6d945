"""Memory of a serving process: keep the blocks of a request for the next one, and collect garbage rarely.

glibc maps large blocks separately and unmaps them when they are freed, so the kernel clears every page of every decoded
photo again. Blocks below the threshold here stay in the heap instead. Larger ones, such as most weights and the pixels
of huge images, go back at once; `return_free_memory` returns the rest after a version is loaded or unloaded.
https://man7.org/linux/man-pages/man3/mallopt.3.html, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD
"""

import gc
from typing import Final

from cifar10_serving.runtimes.machine import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, set_malloc

MMAP_THRESHOLD_BYTES: Final = 4 * 2**20
"""Above the size of a photo as it is decoded: a JPEG of 12 megapixels takes 0.6 MB at an eighth of its size."""
TRIM_THRESHOLD_BYTES: Final = 64 * 2**20
"""Free memory at the end of a heap that is kept."""
YOUNG_OBJECTS: Final = 20_000
"""Number of new objects before a collection. Python's default of 700 is reached by a few requests in flight."""


def configure_malloc() -> bool:
    """Set glibc's thresholds, which otherwise change with use; return whether the C library has them."""
    return set_malloc({M_MMAP_THRESHOLD: MMAP_THRESHOLD_BYTES, M_TRIM_THRESHOLD: TRIM_THRESHOLD_BYTES})


def freeze_gc() -> None:
    """Exclude all current objects from later collections, and collect less often; call it before serving.

    Requests leave no reference cycles, so reference counting frees them. Cycles left by errors are still collected.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
