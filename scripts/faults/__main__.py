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
    """A fault; its first line of documentation says what is injected.

    Args:
        inject: injects it, and observes.
        settings: of the service.
        small_disk: compiled models are kept on a file system of 1 MB.
    """

    inject: Callable[[Rig], Awaitable[Observed]]
    settings: dict[str, str] = field(default_factory=dict)
    small_disk: bool = False

    @property
    def name(self) -> str:
        """Its name for `--only`."""
        return self.inject.__name__

    @property
    def words(self) -> str:
        """The injected fault, in words."""
        return str(self.inject.__doc__).partition("\n")[0].rstrip(".")


FAULTS: Final = (
    Fault(process_faults.worker_killed, process_faults.TWO_WORKERS),
    Fault(process_faults.worker_stopped, process_faults.TWO_WORKERS),
    Fault(process_faults.stop_under_load),
    Fault(process_faults.stop_in_restart_pause, process_faults.TWO_WORKERS),
    Fault(process_faults.memory_exhausted),
    Fault(process_faults.reader_of_json_killed),
    Fault(process_faults.descriptors_exhausted),
    Fault(process_faults.disk_full, small_disk=True),
    Fault(file_faults.broken_version, file_faults.QUICK_POLL),
    Fault(file_faults.fifo_in_version, file_faults.QUICK_POLL),
    Fault(file_faults.models_removed, file_faults.QUICK_POLL),
    Fault(file_faults.version_removed, file_faults.QUICK_POLL),
    Fault(client_faults.half_heads),
    Fault(client_faults.idle_connections),
    Fault(client_faults.flood),
    Fault(client_faults.bombs),
    Fault(client_faults.decoders_lost),
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
