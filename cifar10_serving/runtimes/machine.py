"""This machine: usable cores, and the parameters of glibc's malloc."""

import ctypes
import os
import sys
from collections.abc import Mapping
from typing import Final

# From malloc.h.
M_TRIM_THRESHOLD: Final = -1
M_TOP_PAD: Final = -2
M_MMAP_THRESHOLD: Final = -3
M_MMAP_MAX: Final = -4
M_ARENA_MAX: Final = -8


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def return_free_memory() -> bool:
    """Return the free pages of all heaps to the system; return whether the C library can."""
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is None:
        return False
    trim(0)
    return True


def set_malloc(parameters: Mapping[int, int]) -> bool:
    """Set these parameters, in order; return whether the C library supports all of them."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    taken = [bool(mallopt(name, value)) for name, value in parameters.items()]
    return all(taken)
