"""This machine: usable cores, and the parameters of glibc's malloc."""

import ctypes
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")

# From malloc.h.
M_TRIM_THRESHOLD: Final = -1
M_TOP_PAD: Final = -2
M_MMAP_THRESHOLD: Final = -3
M_MMAP_MAX: Final = -4
M_ARENA_MAX: Final = -8


def usable_cores(root: Path = ROOT) -> int:
    """Return the number of cores that this process may use: by its affinity, and by the CPU quota of its cgroups.

    A quota counts as full cores, rounded up: half a core is one.

    Args:
        root: the folder that contains `proc` and `sys`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *(max(1, math.ceil(quota)) for quota in _quotas(root))])


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPU quotas, in cores, of this process's cgroup and of those around it, of both versions of cgroups.

    https://docs.kernel.org/admin-guide/cgroup-v2.html, cpu.max, and https://docs.kernel.org/scheduler/sched-bwc.html.
    A container may see only its own cgroup, mounted as the root, beside a path that exists only outside.
    """
    groups = root / "sys/fs/cgroup"
    for controllers, path in _cgroups(root):
        if not controllers:
            for folder in _folder_and_parents(groups, path):
                with suppress(OSError, ValueError):  # the root cgroup has no limits
                    quota, period = (folder / "cpu.max").read_text().split()
                    if quota != "max":
                        yield int(quota) / int(period)
        elif "cpu" in controllers:
            mounted = next((groups / name for name in (",".join(controllers), "cpu") if (groups / name).is_dir()), None)
            for folder in _folder_and_parents(mounted, path) if mounted is not None else ():
                with suppress(OSError, ValueError):
                    micros = int((folder / "cpu.cfs_quota_us").read_text())
                    if micros > 0:  # -1: no limit
                        yield micros / int((folder / "cpu.cfs_period_us").read_text())


def _cgroups(root: Path) -> Iterator[tuple[list[str], str]]:
    """Yield the controllers and the path of each of this process's cgroups; version 2 names no controllers."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            yield [name for name in controllers.split(",") if name], path.strip("/")


def _folder_and_parents(mounted: Path, path: str) -> Iterator[Path]:
    parts = [part for part in path.split("/") if part != ".."]
    for length in range(len(parts), -1, -1):
        yield mounted.joinpath(*parts[:length])


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
