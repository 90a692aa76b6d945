"""The output: one Parquet file for each part of the input, and a manifest.

A file's name holds the part's number and the digest of its inputs, and it appears whole or not at all. So the files
are the record of what is done: a run that goes on scores the parts that have none, and notices if the input changed.
"""

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

import cifar10_serving
from cluster.scoring.errors import ScoringUsageError, UnreadableInputError
from cluster.scoring.sources import Part
from cluster.scoring.storage import Storage

MANIFEST: Final = "_manifest.json"
MAX_MANIFEST_BYTES: Final = 8 * 2**20
FORMAT: Final = 1
PART_NAME: Final = re.compile(r"part-(\d{6,})-([0-9a-f]{12})\.parquet")
ROWS_KEY: Final = b"scoring.rows"
ERRORS_KEY: Final = b"scoring.errors"
LABELS_KEY: Final = b"scoring.labels"
FOOTER_READERS: Final = 8


class Inputs(BaseModel):
    """The input and the settings of a run; it can only be resumed with the same ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str
    kind: str
    column: str | None
    key_column: str | None
    part_images: int
    model: str
    version: int
    version_sha256: str
    precision: str
    top_k: int | None


class Finished(BaseModel):
    """The result of a whole run, over all its starts."""

    rows: int
    errors: int
    parts: int
    at: datetime


class Manifest(BaseModel):
    """The file `_manifest.json`."""

    format: int = FORMAT
    release: str = cifar10_serving.__version__
    begun_at: datetime
    inputs: Inputs
    labels: list[str]
    finished: Finished | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of the output, and how many of them are errors."""

    rows: int = 0
    errors: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.rows + other.rows, self.errors + other.errors)


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """The answers for some images of a part, in order.

    Args:
        keys: all images.
        answered: the positions of those with an answer.
        probabilities: (answered, classes) float32, or of the `top_k` best classes (answered, k).
        classes: (answered, 1 or k) the best classes, the most probable first.
        errors: the positions of the others, with their errors.
    """

    keys: Sequence[str]
    answered: NDArray[np.intp]
    probabilities: NDArray[np.float32]
    classes: NDArray[np.intp]
    errors: dict[int, str]


@dataclass(frozen=True)
class Output:
    """The output folder of a run; it can be sent to other processes.

    Args:
        storage: the folder.
        inputs: the run's inputs.
        labels: the labels of the model's classes.
    """

    storage: Storage
    inputs: Inputs
    labels: tuple[str, ...]

    def begin(self) -> Manifest:
        """Write the manifest, or check that the folder's one is of the same run.

        Raises:
            ScoringUsageError: the folder belongs to another run, or holds something else.
            ScoringError: the folder can't be read or written.
        """
        names = self.storage.names()
        if MANIFEST in names:
            return self._same_run(self._manifest())
        strangers = [name for name in names if not name.startswith(".")]
        if strangers:
            raise ScoringUsageError(
                f"{self.storage.url} holds {len(strangers):,} files, such as {min(strangers)}, and no {MANIFEST}",
                expected="a new or empty folder, or one that this command began",
            )
        manifest = Manifest(begun_at=_now(), inputs=self.inputs, labels=list(self.labels))
        self._write_manifest(manifest)
        return manifest

    def written(self) -> dict[int, str]:
        """Return the numbers of the parts that are written, with the digests of their inputs."""
        matches = map(PART_NAME.fullmatch, self.storage.names())
        return {int(match[1]): match[2] for match in matches if match is not None}

    def counts(self, parts: dict[int, str]) -> Counts:
        """Return the counts of written parts, from their footers."""
        with ThreadPoolExecutor(FOOTER_READERS, thread_name_prefix="footers") as threads:
            return sum(threads.map(self._part_counts, parts.items()), Counts())

    def write(self, part: Part, chunks: Sequence[ScoredChunk]) -> Counts:
        """Write the file of a part; return its counts.

        Raises:
            ScoringError: it can't be written.
        """
        import pyarrow.parquet as pq

        counts = Counts(sum(len(chunk.keys) for chunk in chunks), sum(len(chunk.errors) for chunk in chunks))
        table = self._table(chunks).replace_schema_metadata(
            {
                ROWS_KEY: str(counts.rows),
                ERRORS_KEY: str(counts.errors),
                LABELS_KEY: json.dumps(self.labels),
            }
        )
        stream = BytesIO()
        pq.write_table(table, stream, compression="zstd", use_dictionary=["label", "model", "precision"])
        self.storage.write(_part_name(part.number, part.digest), stream.getvalue())
        return counts

    def finish(self, manifest: Manifest, counts: Counts, parts: int) -> None:
        """Record in the manifest that every input has its row."""
        finished = Finished(rows=counts.rows, errors=counts.errors, parts=parts, at=_now())
        self._write_manifest(manifest.model_copy(update={"finished": finished}))
        self.storage.discard_unfinished()

    def check_unchanged(self, part: Part, written_digest: str) -> None:
        """Check that a written part was made from the input as it is now.

        Raises:
            ScoringUsageError: it was not.
        """
        if part.digest != written_digest:
            raise ScoringUsageError(
                f"the input has changed since the run began: part {part.number:,} of {self.storage.url} was made from "
                "other files",
                remedy="choose a new output folder",
            )

    def check_no_more(self, written: dict[int, str], parts: int) -> None:
        """Check that no written part lies beyond the last one of the input.

        Raises:
            ScoringUsageError: one does.
        """
        beyond = [number for number in written if number >= parts]
        if beyond:
            raise ScoringUsageError(
                f"the input has changed since the run began: it has {parts:,} parts now, and {self.storage.url} has "
                f"part {min(beyond):,}",
                remedy="choose a new output folder",
            )

    def _manifest(self) -> Manifest:
        (content,) = self.storage.read([MANIFEST], MAX_MANIFEST_BYTES)
        problem = "it is not a manifest of this command"
        if isinstance(content, UnreadableInputError):
            problem = str(content)
        else:
            with suppress(ValidationError):
                return Manifest.model_validate_json(content)
        raise ScoringUsageError(f"{self.storage.url}/{MANIFEST}: {problem}", remedy="choose a new output folder")

    def _same_run(self, manifest: Manifest) -> Manifest:
        now, then = self.inputs.model_dump(), manifest.inputs.model_dump()
        different = [f"{name} was {then[name]}, and is {now[name]} now" for name in now if now[name] != then[name]]
        if different:
            raise ScoringUsageError(
                f"{self.storage.url} holds another run: {'; '.join(different)}",
                remedy="choose a new output folder, or the options of that run",
            )
        return manifest

    def _write_manifest(self, manifest: Manifest) -> None:
        self.storage.write(MANIFEST, f"{manifest.model_dump_json(indent=1)}\n".encode())

    def _part_counts(self, part: tuple[int, str]) -> Counts:
        import pyarrow.parquet as pq

        name = _part_name(*part)
        with self.storage.open(name) as stream:
            try:
                known: dict[bytes, bytes] = pq.read_metadata(stream).metadata or {}
                return Counts(int(known[ROWS_KEY]), int(known[ERRORS_KEY]))
            except Exception as error:  # noqa: BLE001  # Arrow has errors of its own
                raise ScoringUsageError(
                    f"{self.storage.url}/{name} can't be read: {error}",
                    remedy="delete it; the same command rewrites it",
                ) from None

    def _table(self, chunks: Sequence[ScoredChunk]) -> Any:
        """Return the rows of a part as an Arrow table."""
        import pyarrow as pa

        keys = [key for chunk in chunks for key in chunk.keys]
        rows, width = len(keys), self.inputs.top_k or len(self.labels)
        answered, probabilities = np.zeros(rows, bool), np.zeros((rows, width), np.float32)
        classes = np.zeros((rows, self.inputs.top_k or 1), np.int32)
        errors: list[str | None] = [None] * rows
        start = 0
        for chunk in chunks:
            if chunk.answered.size:
                places = start + chunk.answered
                answered[places], probabilities[places], classes[places] = True, chunk.probabilities, chunk.classes
            for position, error in chunk.errors.items():
                errors[start + position] = error
            start += len(chunk.keys)
        missing = ~answered
        best = probabilities.max(axis=1) if self.inputs.top_k is None else probabilities[:, 0]
        labels = pa.array(self.labels, pa.string())
        columns = {
            "key": pa.array(map(_as_text, keys), pa.string()),
            "label": pa.DictionaryArray.from_arrays(pa.array(classes[:, 0], mask=missing), labels),
            "confidence": pa.array(best, mask=missing),
            **self._all_columns(probabilities, classes, missing, labels),
            "model": _constant(self.inputs.model, rows),
            "version": pa.array(np.full(rows, self.inputs.version, np.int64)),
            "precision": _constant(self.inputs.precision, rows),
            "error": pa.array(errors, pa.string()),
        }
        return pa.table(columns)

    def _all_columns(
        self, probabilities: NDArray[np.float32], classes: NDArray[np.int32], missing: NDArray[np.bool_], labels: Any
    ) -> dict[str, Any]:
        import pyarrow as pa

        mask = pa.array(missing)

        def fixed(values: Any, width: int) -> Any:
            return pa.FixedSizeListArray.from_arrays(values, width, mask=mask)

        confidences = fixed(pa.array(probabilities.ravel()), probabilities.shape[1])
        if self.inputs.top_k is None:
            return {"probabilities": confidences}
        top = labels.take(pa.array(classes.ravel()))
        return {"top_labels": fixed(top, classes.shape[1]), "top_confidences": confidences}


def _as_text(key: str) -> str:
    """Return a key as UTF-8 can hold it: file names may have any bytes."""
    return key.encode("utf-8", "backslashreplace").decode()


def _constant(text: str, rows: int) -> Any:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([text]))


def _part_name(number: int, digest: str) -> str:
    return f"part-{number:06d}-{digest}.parquet"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
