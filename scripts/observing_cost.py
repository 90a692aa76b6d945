"""Measure the CPU time of metrics and the request log, compared with the server's total CPU time per request.

    python -m scripts.observing_cost [--model sequential] [--concurrency 64]

Metrics and log are measured in this process with a typical observation; the total is that of a real server under load
from wrk. Both are CPU times, which are less affected by other load on the machine than wall-clock times.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from bench.load import Target, require_wrk, run_wrk
from bench.uploads import BodyKind, varied_uploads, write_bodies
from cifar10_serving.artifacts.layout import published_versions, version_folder
from service.inference.scheduler import Computed
from service.telemetry.logs import RequestLog
from service.telemetry.stats import Stats
from service.telemetry.trace import Trace
from tests.conftest import MODELS, ROOT
from tests.e2e.server import running_server

CALLS: Final = 20_000
REPEATS: Final = 5
WARM_UP_S: Final = 2
SECONDS: Final = 8


def main() -> None:
    """Print the CPU time of each, and its share of the total."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--model", default="sequential")
    parser.add_argument("--concurrency", type=int, default=64)
    arguments = parser.parse_args()
    require_wrk()
    with Path(os.devnull).open("wb") as nowhere:
        metrics_us, log_us = asyncio.run(_observers_us(nowhere))
    with tempfile.TemporaryDirectory() as folder:
        request_us = _request_us(arguments.model, arguments.concurrency, Path(folder))
    print(f"{arguments.model}, concurrency {arguments.concurrency}: {request_us:.0f} us of CPU time per request")
    for name, cost_us in (("metrics", metrics_us), ("request log", log_us), ("both", metrics_us + log_us)):
        print(f"  {name:11} {cost_us:5.1f} us, {cost_us / request_us:.1%}")


async def _observers_us(stream: BinaryIO) -> tuple[float, float]:
    """Measure the CPU time of metrics and log for one request, in microseconds, including writing the lines."""
    version = published_versions(MODELS, "sequential")[-1]
    trace = Trace(
        method="POST",
        path="/predict",
        request_id="4f1c2b7d9e80a3560000000012ab",
        total_s=0.00231,
        status=200,
        is_inference=True,
        model="sequential",
        version=version,
        decode_s=0.000082,
        computed=Computed(np.zeros((1, 10), np.float32), 0.0004, 0.0011, 4),
    )
    stats, log = Stats(), RequestLog(1.0, stream)
    return _call_us(lambda: stats.request_finished(trace)), _call_us(lambda: log(trace))


def _call_us(call: Callable[[], None]) -> float:
    """Measure the CPU time of one call in microseconds: the shortest of a few repeats."""
    times_s = []
    for _ in range(REPEATS):
        start_s = time.thread_time()
        for _ in range(CALLS):
            call()
        times_s.append(time.thread_time() - start_s)
    return min(times_s) / CALLS * 1e6


def _request_us(model: str, concurrency: int, folder: Path) -> float:
    """Measure the server's CPU time per request, over all its threads, in microseconds."""
    newest = version_folder(MODELS, model, published_versions(MODELS, model)[-1])
    count = write_bodies(folder / "bodies", varied_uploads(ROOT / "tests/images", [newest]), BodyKind.FORM)
    with running_server(folder / "log", CIFAR10_MODELS=str(MODELS)) as server:
        target = Target(f"{server.url}/predict?model={model}", folder / "bodies", count, BodyKind.FORM.value)
        run_wrk(target, concurrency=concurrency, seconds=WARM_UP_S)
        before_s = processor_s(server.process.pid)
        load = run_wrk(target, concurrency=concurrency, seconds=SECONDS)
        return (processor_s(server.process.pid) - before_s) / load.requests * 1e6


def processor_s(process_id: int) -> float:
    """Return the user and system time of a process in seconds (Linux)."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
