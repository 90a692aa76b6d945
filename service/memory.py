"""Has the C library give the memory of unloaded versions back to the system.

glibc maps blocks from 128 KiB on by themselves, and unmaps them when they are freed. But each such free moves
that limit up, to 32 MiB at last: from then on weights lie in the heap among longer-lived blocks, and the holes
that they leave are not given back. Setting the limit keeps it where it is.
https://man7.org/linux/man-pages/man3/mallopt.3.html, M_MMAP_THRESHOLD
"""

import ctypes
import sys
from typing import Final

M_MMAP_THRESHOLD: Final = -3
MMAP_THRESHOLD_BYTES: Final = 128 * 1024


def give_large_blocks_back() -> bool:
    """Keep glibc's limit; whether this C library has one."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES))
