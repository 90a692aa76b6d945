"""Scoring of parts: read, decode and compute in threads, and write each part when it is whole.

A thread takes a chunk of images, reads and decodes them with the service's decoder, and computes them in one call. The
decoders and the runtime release Python's lock, so the threads keep all cores busy: there is one more of them than
cores, because one that has just got its results still has to wait for the lock.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np

from cifar10_serving.artifacts.layout import read_metadata
from cifar10_serving.artifacts.metadata import InputShape
from cifar10_serving.runtimes.base import DEFAULT_MAX_BATCH_SIZE, LoadedModel, Runtime, batch_sizes, compute_in_sizes
from cifar10_serving.runtimes.machine import usable_cores
from cluster.scoring.errors import ScoringError, UnreadableInputError
from cluster.scoring.output import Counts, Output, ScoredChunk
from cluster.scoring.sources import Chunk, Content, Part, Source
from service.errors import RequestError, UnavailableError
from service.images.decoding import DecodeThreads, LargeImage, Pixels, decode_small
from service.registry.loading import VersionLoader
from service.registry.version import ModelVersion

DECODE_LIMIT_S: Final = 600.0
"""Time after which an image that a decoder has not finished gets an error."""
MIN_READERS: Final = 8
"""Number of threads if files come from a store, where most of the time is waiting."""
WAIT_S: Final = 0.2

OnScored = Callable[[int, int, int], None]
"""Called with the size, the rows and the errors of each scored chunk, from several threads."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The service's limits for one image, and the number of classes to keep; None for all probabilities."""

    max_image_pixels: int
    max_decode_bytes: int
    top_k: int | None = None


@dataclass(frozen=True, slots=True)
class PartDone:
    """A part that is written."""

    number: int
    counts: Counts


def load_version(folder: Path, runtime: Runtime, *, max_accuracy_drop: float) -> ModelVersion:
    """Return a version, verified and loaded by the service's own loader.

    Raises:
        ScoringError: it can't be loaded.
        ArtifactError: its metadata can't be read.
    """
    metadata = read_metadata(folder)
    entry = ModelVersion(metadata.name, metadata.version, folder, ())
    loader = VersionLoader(folder.parent.parent, runtime, max_accuracy_drop=max_accuracy_drop)
    if not loader.load(entry) or entry.model is None:
        raise ScoringError(f"{entry} can't be loaded: {entry.reason}")
    return entry


class Scorer:
    """Computes the answers for chunks of images; thread-safe.

    Args:
        model: the loaded version.
        shape: height, width and channels of its input.
        limits: the limits for one image, and what to keep.
    """

    def __init__(self, model: LoadedModel, shape: InputShape, limits: Limits) -> None:
        self._model = model
        self._shape = shape
        self._limits = limits
        self._sizes = batch_sizes(DEFAULT_MAX_BATCH_SIZE)
        self._decoders = DecodeThreads(threads=usable_cores(), max_decode_bytes=limits.max_decode_bytes)

    def score(self, chunk: Chunk) -> ScoredChunk:
        """Return the answers for a chunk.

        Raises:
            ScoringError: its files can't be read, for a reason that is not one file's; or there is not enough memory,
                or no decoder left.
        """
        images = np.empty((len(chunk.keys), *self._shape), np.uint8)
        answered: list[int] = []
        errors: dict[int, str] = {}
        waiting: list[tuple[int, Future[Pixels]]] = []
        for position, content in enumerate(chunk.contents()):
            found = self._decode(content)
            if isinstance(found, Exception):
                errors[position] = str(found)
            elif isinstance(found, Future):
                waiting.append((position, found))
            else:
                images[len(answered)] = found
                answered.append(position)
        for position, future in waiting:
            result = self._wait(future)
            if isinstance(result, Exception):
                errors[position] = str(result)
            else:
                images[len(answered)] = result
                answered.append(position)
        return self._scored(chunk, images[: len(answered)], answered, errors)

    def _decode(self, content: Content) -> Pixels | Future[Pixels] | Exception:
        if isinstance(content, UnreadableInputError):
            return content
        try:
            found = decode_small(content, self._shape, max_pixels=self._limits.max_image_pixels)
            if not isinstance(found, LargeImage):
                return found
            expires_s = time.monotonic() + DECODE_LIMIT_S
            return self._decoders.submit(found.read, expected_pixels=found.expected_pixels, expires_s=expires_s)
        except UnavailableError as error:
            raise _ended(error) from None
        except RequestError as error:
            return error

    def _wait(self, future: "Future[Pixels]") -> Pixels | Exception:
        try:
            return future.result(DECODE_LIMIT_S)
        except UnavailableError as error:
            raise _ended(error) from None
        except RequestError as error:
            return error
        except (TimeoutError, CancelledError):
            future.cancel()
            self._decoders.replace_overdue()
            return UnreadableInputError(f"decoding it takes more than {DECODE_LIMIT_S:g} s")

    def _scored(self, chunk: Chunk, images: Pixels, answered: list[int], errors: dict[int, str]) -> ScoredChunk:
        positions = np.array(answered, np.intp)
        top_k = self._limits.top_k
        if not answered:
            none = np.empty((0, top_k or 0), np.float32)
            return ScoredChunk(chunk.keys, positions, none, np.empty((0, top_k or 1), np.intp), errors)
        probabilities = compute_in_sizes(self._model.predict, images, self._sizes)
        if top_k is None:
            best = probabilities.argmax(axis=1, keepdims=True)
            return ScoredChunk(chunk.keys, positions, probabilities, best, errors)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        return ScoredChunk(chunk.keys, positions, np.take_along_axis(probabilities, best, 1), best, errors)


def _ended(error: UnavailableError) -> ScoringError:
    """Return the error for a shortage that the next images would meet as well."""
    return ScoringError(
        error.problem, remedy="run the same command again to continue, with fewer --processes or --threads"
    )


@dataclass(slots=True)
class _OpenPart:
    """A part of which chunks are being scored; `chunks` is their number once the last one was handed out."""

    part: Part
    scored: dict[int, ScoredChunk] = field(default_factory=dict)
    chunks: int | None = None


class PartScorer:
    """Scores parts in threads and writes them.

    Args:
        source: the input.
        scorer: computes the answers.
        output: where parts are written.
        threads: number of threads.
    """

    def __init__(self, source: Source, scorer: Scorer, output: Output, *, threads: int) -> None:
        self._source = source
        self._scorer = scorer
        self._output = output
        self._threads = threads

    def run(self, parts: Iterator[Part], on_scored: OnScored | None = None) -> Iterator[PartDone]:
        """Yield the parts as they are written, in any order; if stopped early, drop those that are not whole.

        Raises:
            ScoringError: a part can't be read or written.
        """
        work = _Work(self._source, parts)
        threads = [
            threading.Thread(target=self._score, args=(work, on_scored), name=f"scoring-{number}", daemon=True)
            for number in range(self._threads)
        ]
        for thread in threads:
            thread.start()
        try:
            yield from work.results(threads)
        finally:
            work.stop()
            for thread in threads:
                thread.join()

    def _score(self, work: "_Work", on_scored: OnScored | None) -> None:
        try:
            while (taken := work.take()) is not None:
                open_part, number, chunk = taken
                scored = self._scorer.score(chunk)
                whole = work.add(open_part, number, scored)
                if on_scored is not None:
                    on_scored(chunk.size, len(scored.keys), len(scored.errors))
                if whole is not None:
                    work.done(PartDone(open_part.part.number, self._output.write(open_part.part, whole)))
        except BaseException as error:  # noqa: BLE001  # raised by `run`
            work.fail(error)


class _Work:
    """The chunks that threads take, and the parts that they complete."""

    def __init__(self, source: Source, parts: Iterator[Part]) -> None:
        self._source = source
        self._taking = threading.Lock()
        self._chunks = self._each(parts)
        self._changed = threading.Condition()
        self._done: list[PartDone] = []
        self._error: BaseException | None = None
        self._stopped = False

    def take(self) -> tuple[_OpenPart, int, Chunk] | None:
        """Return the next chunk with its part and its number in it; None if there is none."""
        with self._taking:
            return None if self._stopped else next(self._chunks, None)

    def add(self, open_part: _OpenPart, number: int, scored: ScoredChunk) -> list[ScoredChunk] | None:
        """Add a scored chunk to its part; return the chunks of the part, in order, if it is whole now."""
        with self._changed:
            open_part.scored[number] = scored
            if open_part.chunks != len(open_part.scored):
                return None
        return [open_part.scored[number] for number in range(len(open_part.scored))]

    def done(self, part: PartDone) -> None:
        """Hand out a part."""
        with self._changed:
            self._done.append(part)
            self._changed.notify()

    def fail(self, error: BaseException) -> None:
        """End the run with this error; the first one counts."""
        with self._changed:
            self._error = self._error or error
            self._stopped = True
            self._changed.notify()

    def stop(self) -> None:
        """Hand out no more chunks."""
        self._stopped = True

    def results(self, threads: Sequence[threading.Thread]) -> Iterator[PartDone]:
        """Yield the parts until all threads have ended."""
        while True:
            with self._changed:
                is_over = not any(thread.is_alive() for thread in threads)
                if not self._done and self._error is None and not is_over:
                    self._changed.wait(WAIT_S)
                done, self._done = self._done, []
                error = self._error
            yield from done
            if error is not None:
                raise error
            if is_over and not done:
                return

    def _each(self, parts: Iterator[Part]) -> Iterator[tuple[_OpenPart, int, Chunk]]:
        """Yield the chunks of all parts; before the last one of a part, its number of chunks is set."""
        for part in parts:
            open_part = _OpenPart(part)
            chunks = self._source.chunks(part)
            # A part without images becomes a file without rows, so that it isn't looked for again.
            ahead = next(chunks, Chunk((), list, 0))
            number = 0
            for following in chain(chunks, [None]):
                if following is None:
                    open_part.chunks = number + 1
                yield open_part, number, ahead
                if following is not None:
                    ahead, number = following, number + 1


def default_threads(*, is_remote: bool) -> int:
    """Return the number of threads for this machine."""
    return max(usable_cores() + 1, MIN_READERS if is_remote else 0)
