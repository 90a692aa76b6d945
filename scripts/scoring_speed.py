"""Measure batch scoring against the runtime alone: `python -m scripts.scoring_speed FOLDER --model sequential`.

In turn, and several times: OpenVINO without decoding (bench/baselines/runtime_alone.py, the better of its two layouts),
`python -m cluster score`, and, with --client, `python -m cifar10_serving predict` with a server of its own. Prints the
images per second of each, the processor time of an image, and the ratio to the runtime of the same round. Compare
nothing but ratios, and only on a quiet machine. The rate of `cluster score` is its own, from the first image to the
last part; it includes the start of the worker processes, and the wall time also that of the command.

--processor-time measures on one core, in this process, the processor time of an image instead: batches of ready pixels
for the runtime alone, parts for scoring, in turn. Where all cores are busy, the ratio of the rates is that of these
times, and a busy machine disturbs them less.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from cifar10_serving.artifacts.layout import published_versions, version_folder
from cifar10_serving.artifacts.metadata import InputShape
from cluster.scoring.sources import Source

ROOT: Final = Path(__file__).resolve().parent.parent
BATCHES: Final = ("8", "32", "64")
RATE: Final = re.compile(r"([0-9,]+) images/s$")
START_LIMIT_S: Final = 60.0
RUNTIME_BATCH: Final = 32
PART_IMAGES: Final = 896
MAX_PIXELS: Final = 50_000_000
TURNS: Final = 8
"""Of --processor-time, for each round."""


@dataclass(frozen=True)
class Ran:
    """A command that has ended: its wall time, its processor time with that of its children, and its output."""

    wall_s: float
    processor_s: float
    printed: str


def _run(command: Sequence[str], environment: dict[str, str]) -> Ran:
    start_s = time.perf_counter()
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=printed, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - start_s
        printed.seek(0)
        text = printed.read().decode()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Ran(wall_s, used.ru_utime + used.ru_stime, text)


@contextmanager
def _server(models: Path, environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Yield a server's address and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "service", "--port", str(port), "--models", str(models), "--log-level", "warning"]
    command += ["--access-log-sample-rate", "0"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        waiting = [sys.executable, "-m", "cifar10_serving", "wait-ready", "--url", url, "--for", str(START_LIMIT_S)]
        subprocess.run(waiting, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        yield url, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _processor_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and print a line for each command of each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="sequential")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each batch size of the runtime alone")
    parser.add_argument("--client", action="store_true", help="also measure the client over HTTP")
    parser.add_argument("--no-score", action="store_true", help="leave out python -m cluster score")
    parser.add_argument("--processor-time", action="store_true", help="compare processor times on one core")
    options = parser.parse_args()
    models = ROOT / "models"
    version = version_folder(models, options.model, published_versions(models, options.model)[-1])
    if options.processor_time:
        with tempfile.TemporaryDirectory() as output:
            _processor_times(options, version, output)
        return
    images = sum(1 for file in options.folder.rglob("*") if file.is_file())
    with tempfile.TemporaryDirectory() as work:
        only = Path(work, "models", options.model)
        only.parent.mkdir()
        only.symlink_to(models / options.model)
        environment = os.environ | {"CIFAR10_COMPILED_MODELS": f"{work}/compiled", "CIFAR10_PRECISION": "float32"}
        for number in range(options.rounds):
            alone = _runtime_alone(version, options.seconds)
            print(f"round {number + 1}: runtime alone {alone:,.0f} images/s", flush=True)
            if not options.no_score:
                _score(options, images, alone, Path(work, "output"), environment)
            if options.client:
                _client(options, images, alone, only.parent, environment)


def _processor_times(options: argparse.Namespace, version: Path, output: str) -> None:
    from cluster.scoring.command import job_for, parse
    from cluster.scoring.run import Worker
    from service.settings import read_settings

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    arguments = [str(options.folder), output, "--model", f"{options.model}@{version.name}", "--precision", "float32"]
    started = job_for(parse(arguments), read_settings())
    if started.entry.model is None:
        raise AssertionError("the version is not loaded")
    predict, batch = started.entry.model.predict, np.zeros((RUNTIME_BATCH, *started.entry.input_shape), np.uint8)
    batch[:] = np.random.default_rng(1).integers(0, 256, batch.shape, np.uint8)
    worker = Worker(started.job, started.entry)
    parts = cycle(started.source.parts(PART_IMAGES))
    alone_s: list[float] = []
    scored_s: list[float] = []
    for _ in range(1 + TURNS * options.rounds):
        start_s = time.process_time()
        for _ in range(PART_IMAGES // RUNTIME_BATCH):
            predict(batch)
        middle_s = time.process_time()
        rows = sum(done.counts.rows for done in worker.run(islice(parts, 1)))
        alone_s.append((middle_s - start_s) / (PART_IMAGES // RUNTIME_BATCH * RUNTIME_BATCH))
        scored_s.append((time.process_time() - middle_s) / rows)
    read_s, decode_s = _stages(started.job.open_source(), started.entry.input_shape)
    alone, scored = median(alone_s[1:]), median(scored_s[1:])  # the first turn prepares
    print(
        f"{options.model}: runtime alone {alone * 1e6:,.0f} µs, scoring {scored * 1e6:,.0f} µs of processor time an "
        f"image (medians of {len(alone_s) - 1} turns), ratio {alone / scored:.2f}; "
        f"reading takes {read_s * 1e6:.0f} µs and decoding {decode_s * 1e6:.0f} µs"
    )


def _stages(source: Source, shape: InputShape) -> tuple[float, float]:
    """Return the processor times for reading and decoding an image of the first part."""
    from service.images.decoding import decode_small

    (part,) = islice(source.parts(PART_IMAGES), 1)
    begin_s = time.process_time()
    contents = [content for chunk in source.chunks(part) for content in chunk.contents()]
    files = [content for content in contents if isinstance(content, bytes)]
    start_s = time.process_time()
    for content in files:
        decode_small(content, shape, max_pixels=MAX_PIXELS)
    return (start_s - begin_s) / len(contents), (time.process_time() - start_s) / len(files)


def _runtime_alone(version: Path, seconds: float) -> float:
    command = [sys.executable, "bench/baselines/runtime_alone.py", str(version), "float32", str(seconds), *BATCHES]
    rates: dict[str, dict[str, float]] = json.loads(_run(command, dict(os.environ)).printed)["images_per_s"]
    return max(rate for layout in rates.values() for rate in layout.values())


def _score(options: argparse.Namespace, images: int, alone: float, output: Path, environment: dict[str, str]) -> None:
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "cluster", "score", str(options.folder), str(output), "--model", options.model]
    ran = _run(command, environment)
    found = RATE.search(ran.printed.strip())
    if found is None:
        raise SystemExit(f"no rate in {ran.printed!r}")
    rate = float(found[1].replace(",", ""))
    print(
        f"  cluster score  {rate:7,.0f} images/s, ratio {rate / alone:.2f}; whole command {ran.wall_s:.1f} s, "
        f"{images / ran.wall_s / alone:.2f}; {ran.processor_s / images * 1e6:.0f} µs of processor time an image",
        flush=True,
    )


def _client(options: argparse.Namespace, images: int, alone: float, models: Path, environment: dict[str, str]) -> None:
    with _server(models, environment) as (url, process):
        before_s = _processor_s(process)
        command = [sys.executable, "-m", "cifar10_serving", "predict", str(options.folder), "--json", "--url", url]
        ran = _run(command, environment)
        server_s = _processor_s(process) - before_s
    print(
        f"  client predict {images / ran.wall_s:7,.0f} images/s, ratio {images / ran.wall_s / alone:.2f}; "
        f"{ran.wall_s:.1f} s; processor time an image: client {ran.processor_s / images * 1e6:.0f} µs, "
        f"server {server_s / images * 1e6:.0f} µs",
        flush=True,
    )


if __name__ == "__main__":
    main()
