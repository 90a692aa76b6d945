"""Command line of `scripts.faults`."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scripts.attack.process import small_models
from scripts.faults import client_faults, file_faults, process_faults
from scripts.faults.rig import Observed, Rig, running

AT_ONCE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault.

    Args:
        words: describes the fault in the table.
        inject: injects the fault and observes the effect.
        settings: settings of the service.
        small_disk: put the compiled models on a file system of 1 MB.
    """

    words: str
    inject: Callable[[Rig], Awaitable[Observed]]
    settings: dict[str, str] = field(default_factory=dict)
    small_disk: bool = False

    @property
    def name(self) -> str:
        """The fault's name for `--only`."""
        return self.inject.__name__


FAULTS: Final = (
    Fault("A worker is killed (`kill -9`), two workers", process_faults.worker_killed, process_faults.TWO_WORKERS),
    Fault("A worker hangs (`kill -STOP`), two workers", process_faults.worker_stopped, process_faults.TWO_WORKERS),
    Fault("SIGTERM under load", process_faults.stop_under_load),
    Fault(
        "SIGTERM right after a worker was killed, two workers",
        process_faults.stop_in_restart_pause,
        process_faults.TWO_WORKERS,
    ),
    Fault("Out of memory for a large image (`ulimit -v`)", process_faults.memory_exhausted),
    Fault("The process that parses large JSON is killed at work", process_faults.reader_of_json_killed),
    Fault(
        "Out of file descriptors (`ulimit -n`): 200 clients connect, 20 descriptors are free",
        process_faults.descriptors_exhausted,
    ),
    Fault("Disk full for compiled models (a tmpfs of 1 MB)", process_faults.disk_full, small_disk=True),
    Fault(
        "A version with a flipped bit is published, then a valid one",
        file_faults.broken_version,
        file_faults.QUICK_POLL,
    ),
    Fault(
        "A version whose `metadata.json` is a FIFO, and a FIFO as `serving.json`; then a valid version",
        file_faults.fifo_in_version,
        file_faults.QUICK_POLL,
    ),
    Fault("The models folder is renamed for two seconds", file_faults.models_removed, file_faults.QUICK_POLL),
    Fault(
        "The only version of one of three models is deleted, then published again",
        file_faults.version_removed,
        file_faults.QUICK_POLL,
    ),
    Fault("1,000 connections that send half a request head", client_faults.half_heads),
    Fault("1,000 connections that send nothing", client_faults.idle_connections),
    Fault("Overload at three times the capacity, for 5 s (`/explain`, 50 images each)", client_faults.flood),
    Fault("60 decompression bombs at the same time: pixels, segments, chunks, text, frames", client_faults.bombs),
    Fault("12 images whose decoding takes longer than their deadline of 0.1 s", client_faults.decoders_lost),
)


def main() -> int:
    """Inject the faults; return 1 if the service did not recover from one."""
    parser = argparse.ArgumentParser(prog="python -m scripts.faults", description="Inject faults into a service.")
    parser.add_argument("--only", nargs="+", choices=[fault.name for fault in FAULTS], help="only these")
    arguments = parser.parse_args()
    is_right = True
    print("| fault | what happened | recovered after |\n|---|---|---|")
    for fault in FAULTS:
        if arguments.only and fault.name not in arguments.only:
            continue
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            observed = _inject(fault, Path(folder))
        if observed is None:
            print(f"{fault.words}: skipped: this user may not mount a file system", file=sys.stderr)
            continue
        is_right &= observed.recovered_s is not None
        recovered = "**not**" if observed.recovered_s is None else _in_seconds(observed.recovered_s)
        print(f"| {fault.words} | {observed.happened} | {recovered} |", flush=True)
    return 0 if is_right else 1


def _inject(fault: Fault, folder: Path) -> Observed | None:
    async def inject() -> Observed:
        async with running(small_models(folder / "models"), folder, **fault.settings, **compiled) as rig:
            return await fault.inject(rig)

    full = folder / "full"
    compiled = {"COMPILED_MODELS": str(full)} if fault.small_disk else {}
    if fault.small_disk and not process_faults.mount_small(full):
        return None
    try:
        return asyncio.run(inject())
    finally:
        if fault.small_disk:
            process_faults.unmount(full)
        shutil.rmtree(folder, ignore_errors=True)


def _in_seconds(recovered_s: float) -> str:
    return "at once" if recovered_s < AT_ONCE_S else f"{recovered_s:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
