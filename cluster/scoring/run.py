"""One run: find what is left to do, let workers do it, and record that all of it is done."""

import gc
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Final, Literal, Protocol

from cifar10_serving.artifacts.metadata import Precision, RuntimeName
from cifar10_serving.runtimes.base import Runtime
from cifar10_serving.runtimes.machine import usable_cores
from cifar10_serving.runtimes.selection import open_runtime
from cifar10_serving.runtimes.telemetry import disable_telemetry
from cluster.scoring.errors import ScoringError
from cluster.scoring.output import Counts, Inputs, Manifest, Output
from cluster.scoring.progress import Progress
from cluster.scoring.scorer import Limits, OnScored, PartDone, PartScorer, Scorer, default_threads, load_version
from cluster.scoring.sources import Part, Source, SourceOptions, open_source
from cluster.scoring.storage import open_storage
from service.registry.version import ModelVersion

TASKS_AHEAD: Final = 2
MAX_LOCK_SHARE: Final = 0.2
"""Share of the time for which the threads of a process may hold Python's lock: above it they wait for one another."""
LOCKED_S: Final = 60e-6
DECODE_S: Final = 90e-6
"""Estimates of the time for which a small image holds Python's lock, and for which it is read and decoded."""
PARENT_CHECK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A published version and the runtime that computes it; see the service's settings of the same names."""

    folder: Path
    runtime: RuntimeName | Literal["auto"] = "auto"
    device: str = "auto"
    precision: Precision | Literal["auto"] = "auto"
    max_accuracy_drop: float = 0.001
    compiled_models: Path | None = None

    def open_runtime(self) -> Runtime:
        """Open the runtime for scoring without HTTP.

        Raises:
            RuntimeUnavailableError: it is not available on this machine.
        """
        disable_telemetry()
        return open_runtime(
            self.runtime,
            self.device,
            self.precision,
            compiled_models=self.compiled_models,
            serves_http=False,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs, on this machine or another; files must have the same paths there.

    Args:
        threads: number of threads of a worker; None for the machine's.
    """

    source: str
    source_options: SourceOptions
    output: str
    inputs: Inputs
    labels: tuple[str, ...]
    model: ModelChoice
    limits: Limits
    threads: int | None = None

    def open_output(self) -> Output:
        """Return the output."""
        return Output(open_storage(self.output), self.inputs, self.labels)

    def open_source(self) -> Source:
        """Return the input.

        Raises:
            ScoringUsageError: there is nothing to score.
        """
        return open_source(self.source, self.source_options)


class Worker:
    """Scores parts in this process.

    Args:
        job: what to do.
        entry: the loaded version; None to load it.
    """

    def __init__(self, job: Job, entry: ModelVersion | None = None) -> None:
        entry = entry or load_version(
            job.model.folder, job.model.open_runtime(), max_accuracy_drop=job.model.max_accuracy_drop
        )
        if entry.model is None:
            raise AssertionError("the version is not loaded")
        if entry.precision != job.inputs.precision:
            raise ScoringError(f"{entry} computes in {entry.precision} here, and in {job.inputs.precision} elsewhere")
        gc.collect()
        gc.freeze()  # what is loaded stays; looking through it again and again takes time
        threads = job.threads or default_threads(is_remote="://" in job.source)
        scorer = Scorer(entry.model, entry.input_shape, job.limits)
        self._parts = PartScorer(job.open_source(), scorer, job.open_output(), threads=threads)

    def run(self, parts: Iterator[Part], on_scored: OnScored | None = None) -> Iterator[PartDone]:
        """Yield the parts as they are written; see `PartScorer.run`."""
        return self._parts.run(parts, on_scored)


class Crew(Protocol):
    """Workers, here or elsewhere."""

    def run(self, parts: Iterator[Part], progress: Progress) -> Iterator[PartDone]:
        """Yield the parts as they are written, in any order."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run: all rows of the output, those that were scored now, and the time this took."""

    counts: Counts
    parts: int
    scored_now: int
    elapsed_s: float


def score(job: Job, source: Source, crew: Crew, progress: Progress, manifest: Manifest) -> Result:
    """Score what is not scored yet, and finish the output.

    Args:
        manifest: the output's, as `Output.begin` returned it.

    Raises:
        ProjectError: the run can't go on; parts that are written stay.
    """
    output = job.open_output()
    written = output.written()
    todo = _Todo(source, output, written, progress, job.inputs.part_images)
    counts, done = Counts(), set[int]()
    for part in crew.run(iter(todo), progress):
        if part.number in done:  # a worker was believed to be dead
            continue
        done.add(part.number)
        counts += part.counts
    if len(done) + len(written) != todo.parts:
        raise ScoringError(f"{len(done) + len(written):,} of {todo.parts:,} parts are written", remedy="run it again")
    counts += output.counts(written)
    output.finish(manifest, counts, todo.parts)
    return Result(counts, todo.parts, progress.images, progress.elapsed_s)


class _Todo:
    """The parts that are not written; iterate once."""

    def __init__(
        self, source: Source, output: Output, written: dict[int, str], progress: Progress, part_images: int
    ) -> None:
        self._source = source
        self._output = output
        self._written = written
        self._progress = progress
        self._part_images = part_images
        self.parts = 0
        """Number of parts seen so far; in the end, of all parts."""

    def __iter__(self) -> Iterator[Part]:
        for part in self._source.parts(self._part_images):
            self.parts += 1
            digest = self._written.get(part.number)
            if digest is None:
                yield part
            else:
                self._output.check_unchanged(part, digest)
                self._progress.skip(part.size)
        self._output.check_no_more(self._written, self.parts)


class OneProcess:
    """The crew of this process alone."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def run(self, parts: Iterator[Part], progress: Progress) -> Iterator[PartDone]:
        """See `Crew.run`."""
        return self._worker.run(parts, progress.scored)


class Processes:
    """Several processes, each with its share of the cores and a copy of the model.

    Args:
        job: what to do.
        processes: their number.
    """

    def __init__(self, job: Job, processes: int) -> None:
        self._job = job
        self._processes = processes

    def run(self, parts: Iterator[Part], progress: Progress) -> Iterator[PartDone]:
        """See `Crew.run`."""
        context = multiprocessing.get_context("spawn")
        started: Synchronized[int] = context.Value("i", 0)
        pool = ProcessPoolExecutor(
            self._processes,
            mp_context=context,
            initializer=_start_worker,
            initargs=(self._job, self._processes, started, os.getpid()),
        )
        try:
            yield from self._results(pool, parts, progress)
        except BrokenProcessPool:
            raise ScoringError(
                "a worker process has ended unexpectedly",
                expected="memory for a model in each process",
                remedy="run the same command again to continue, with fewer --processes",
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _results(self, pool: ProcessPoolExecutor, parts: Iterator[Part], progress: Progress) -> Iterator[PartDone]:
        running: dict[Future[PartDone], Part] = {}
        while True:
            for part in islice(parts, TASKS_AHEAD * self._processes - len(running)):
                running[pool.submit(_score_part, part)] = part
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                part, done = running.pop(future), future.result()
                progress.scored(part.size, done.counts.rows, done.counts.errors)
                yield done


_worker: Worker | None = None
"""The worker of a process of `Processes`."""


def _start_worker(job: Job, processes: int, started: "Synchronized[int]", parent: int) -> None:
    global _worker  # noqa: PLW0603  # a pool's initializer has no other place
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with started.get_lock():
        number = started.value
        started.value += 1
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[number % processes :: processes] or cores)
    _worker = Worker(job)


def _end_with(parent: int) -> None:
    """End this process when its parent was killed: the pool would wait for it forever."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


def _score_part(part: Part) -> PartDone:
    if _worker is None:
        raise AssertionError("the process was not initialized")
    (done,) = _worker.run(iter([part]))
    return done


def default_processes(image_s: float | None) -> int:
    """Return the number of processes on this machine, so that their threads rarely wait for the GIL.

    Args:
        image_s: the time per image when all cores compute; None if it was not measured.
    """
    if image_s is None:
        return 1
    cores = usable_cores()
    share = LOCKED_S / (image_s * cores + DECODE_S)
    return max(1, min(cores, math.ceil(cores * share / MAX_LOCK_SHARE)))
