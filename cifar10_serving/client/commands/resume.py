"""The file of `predict --resume FILE`: stores every answer, so that the same command can continue a run.

It has the rows that `--json` or `--csv` would print, one per image and nothing else, so it is also the result. A row is
written by one system call before it is printed: a killed run loses no row that was shown, and leaves at most one
partial line at the end, which the next run drops. Answers are kept; failed images are sent again.
"""

import contextlib
import csv
import json
import os
import shutil
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cifar10_serving.artifacts.metadata import MAX_VERSION_DIGITS
from cifar10_serving.client._images import truncated_repr
from cifar10_serving.client.commands.exit_codes import CommandLineError
from cifar10_serving.client.commands.files import NamedImage
from cifar10_serving.client.commands.rows import CSV_COLUMNS, CSV_HEADER, Row, csv_line, csv_name, csv_words, json_line
from cifar10_serving.schemas import Prediction

JSON_START: Final = b'{"file": '
CSV_START: Final = CSV_HEADER.encode()
CSV_SUFFIX: Final = ".csv"
OTHER_FILE: Final = "name another file, or move this one"
READ_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class SavedAnswer:
    """An answer of an earlier run; `classes` is the number of classes that it lists, 0 in CSV, which lists one."""

    model: str
    version: int
    label: str
    classes: int


@dataclass(frozen=True, slots=True)
class SavedRow:
    """A row in the file; `answer` is None for a failed image."""

    line: bytes
    name: str
    answer: SavedAnswer | None


class ResumeFile:
    """The rows of a run, in a file that is locked against other runs.

    Args:
        path: the file, which may not exist yet.
        images: all images of the run.
        as_csv: whether rows are CSV or JSON lines.

    Raises:
        CommandLineError: the file has other content, has answers for none of the images, is in use, or can't be read or
            written.
    """

    def __init__(self, path: Path, images: Sequence[NamedImage], *, as_csv: bool) -> None:
        self._as_csv = as_csv
        self._images = images
        self._path = _checked(path)
        with self._named_errors("opened"):
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            _lock(self._file, self._path)
            self._order: list[int] = []
            self.earlier: dict[int, SavedAnswer] = {}
            """The answers of earlier runs, by the image's position in the run."""
            self.strange = 0
            """Number of rows for files that are not in this run; they are kept."""
            content = _read(self._file)
            changed_ns = os.fstat(self._file).st_mtime_ns
            self._kept = self._choose(list(self._rows(content)), changed_ns)
            self._content = content
            self._origins = {(found.model, found.version, found.classes) for found in self.earlier.values()}
        except BaseException:
            os.close(self._file)
            raise

    def check(self, model: str | None, version: str | None) -> None:
        """Compare the requested model and version with those of the stored answers.

        Raises:
            CommandLineError: they differ.
        """
        for found in self.earlier.values():
            if model not in {None, found.model} or (version and version.isdigit() and int(version) != found.version):
                asked = f"{model or found.model} version {version}" if version else model
                raise CommandLineError(
                    f"{truncated_repr(self._path)} has answers of {found.model} version {found.version}, and this "
                    f"run uses {asked}",
                    remedy=OTHER_FILE,
                )

    def check_answer(self, prediction: Prediction) -> None:
        """Compare a new answer with the stored ones.

        Raises:
            CommandLineError: the model, version or number of classes differs.
        """
        classes = 0 if self._as_csv else len(prediction.top)
        if self._origins and (prediction.model, prediction.version, classes) not in self._origins:
            model, version, top = next(iter(self._origins))
            found = f"{prediction.model} version {prediction.version}"
            raise CommandLineError(
                f"{truncated_repr(self._path)} has answers of {model} version {version}"
                + (f" with {top} classes" if top else "")
                + f", and now {found} answers"
                + (f" with {len(prediction.top)}" if top else ""),
                remedy=f"use --model {model} --version {version}"
                + (f" --top-k {top}" if top else "")
                + ", or name another file",
            )

    def begin(self) -> None:
        """Keep only valid rows in the file; images of dropped rows are sent again."""
        kept = b"".join(row.line + b"\n" for row in self._kept)
        if self._as_csv:
            kept = CSV_START + b"\n" + kept
        with self._named_errors("written"):
            if self._content.startswith(kept):
                os.ftruncate(self._file, len(kept))
            elif kept.startswith(self._content):  # the header or the end of the last line is missing
                _write(self._file, kept[len(self._content) :])
            else:
                self._replace(kept)

    def write(self, index: int, row: Row) -> None:
        """Add a row."""
        self._order.append(index)
        line = csv_line(row) if self._as_csv else json_line(row)
        with self._named_errors("written"):
            _write(self._file, line.encode("utf-8", "surrogateescape") + b"\n")

    def finish(self) -> None:
        """Sort rows of repeated images into the order of the images."""
        if self._order == sorted(self._order):
            return
        rows = list(self._rows(_read(self._file)))
        places = dict(zip((id(row) for row in rows), self._order, strict=True))
        lines = [row.line + b"\n" for row in sorted(rows, key=lambda row: places[id(row)])]
        with self._named_errors("written"):
            self._replace(b"".join([CSV_START + b"\n", *lines] if self._as_csv else lines))

    def is_standard_output(self) -> bool:
        """Return whether standard output is this file."""
        try:
            return os.path.samestat(os.fstat(1), os.fstat(self._file))
        except OSError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)

    def _choose(self, rows: Sequence[SavedRow], changed_ns: int) -> list[SavedRow]:
        """Return the rows to keep: one for each answered and unchanged image, and rows for files outside this run."""
        places: dict[str, deque[int]] = {}
        for index, image in enumerate(self._images):
            places.setdefault(csv_name(image.name) if self._as_csv else image.name, deque()).append(index)
        known = set(places)
        kept: list[SavedRow] = []
        for row in rows:
            if row.name not in known:
                self.strange += 1
                kept.append(row)
                self._order.append(-1)
            elif row.answer and places[row.name] and not _is_newer(self._images[places[row.name][0]], changed_ns):
                index = places[row.name].popleft()
                self.earlier[index] = row.answer
                self._order.append(index)
                kept.append(row)
        if rows and self.strange == len(rows):
            raise CommandLineError(
                f"{truncated_repr(self._path)} has answers for other files; the first is "
                f"{truncated_repr(rows[0].name)}",
                expected="the file of a run over the same images with the same names",
                remedy=OTHER_FILE,
            )
        return kept

    def _rows(self, content: bytes) -> Iterator[SavedRow]:
        try:
            yield from _csv_rows(content) if self._as_csv else _json_rows(content)
        except ValueError as error:
            kind = "--csv" if self._as_csv else "--json"
            raise CommandLineError(
                f"{truncated_repr(self._path)} is not what `predict {kind} --resume` writes: {truncated_repr(error)}",
                remedy=OTHER_FILE,
            ) from error

    def _replace(self, content: bytes) -> None:
        """Replace the whole file atomically: if the process is killed, the old or the new one exists."""
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        new = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            _lock(new, beside)
            shutil.copymode(self._path, beside)
            _write(new, content)
            os.fsync(new)
            beside.replace(self._path)
        except BaseException:
            os.close(new)
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
        os.close(self._file)
        self._file = new

    @contextlib.contextmanager
    def _named_errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CommandLineError(
                f"{truncated_repr(self._path)} can't be {done}: {error.strerror or error}"
            ) from error


def wants_csv(path: Path, *, as_json: bool, as_csv: bool) -> bool:
    """Return whether the file has CSV: as printed, or by its name."""
    return as_csv or (path.suffix.lower() == CSV_SUFFIX and not as_json)


def _checked(path: Path) -> Path:
    try:
        found = path.resolve()
        mode = found.stat().st_mode
    except FileNotFoundError:
        return found
    except (OSError, ValueError, RuntimeError) as error:  # a null character, a loop of links, too long a name
        words = getattr(error, "strerror", None) or error
        raise CommandLineError(f"{truncated_repr(path)} can't be opened: {truncated_repr(words)}") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise CommandLineError(f"{truncated_repr(path)} is {kind}", expected="a file for the run's answers")
    return found


def _lock(file: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CommandLineError(
            f"another run is writing to {truncated_repr(path)}", remedy="wait for it, or stop it"
        ) from None
    except OSError:
        return  # a file system without locks


def _read(file: int) -> bytes:
    os.lseek(file, 0, os.SEEK_SET)
    parts = []
    while part := os.read(file, READ_BYTES):
        parts.append(part)
    return b"".join(parts)


def _write(file: int, content: bytes) -> None:
    while content:  # a nearly full disk takes only a part
        content = content[os.write(file, content) :]


def _is_newer(image: NamedImage, changed_ns: int) -> bool:
    try:
        return image.path is not None and image.path.stat().st_mtime_ns > changed_ns
    except OSError:
        return True


def _json_rows(content: bytes) -> Iterator[SavedRow]:
    """Yield the rows; ignore a partial last line.

    Raises:
        ValueError: another line is not a row.
    """
    *lines, last = content.split(b"\n")
    last = last.rstrip(b"\0")  # a file system may leave these after a power loss
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith(b'{"evaluation": '):  # from standard output
            try:
                yield _json_row(line)
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"line {number} is not an answer") from error
    try:
        yield _json_row(last)
    except (ValueError, TypeError, KeyError):
        if last[: len(JSON_START)] != JSON_START[: len(last)]:
            raise ValueError("its last line is not an answer") from None


def _json_row(line: bytes) -> SavedRow:
    record = json.loads(line)
    name, found = record["file"], record["prediction"]
    if not isinstance(name, str):
        raise TypeError
    if found is None:
        return SavedRow(line, name, None)
    prediction = Prediction.model_validate(found, extra="ignore")
    return SavedRow(
        line, name, SavedAnswer(prediction.model, prediction.version, prediction.label, len(prediction.top))
    )


def _csv_rows(content: bytes) -> Iterator[SavedRow]:
    """Yield the rows; ignore a partial last one.

    Raises:
        ValueError: another line is not a row, or there is no header.
    """
    whole, _, torn = content.rpartition(b"\n")
    if not whole:
        if not CSV_START.startswith(torn):
            raise ValueError("it has no header")
        return
    text = whole.decode("utf-8", "surrogateescape")
    lines = text.split("\n")
    reader = csv.reader(line + "\n" for line in lines)
    begin = 0
    for values in _checked_csv(reader):
        end = reader.line_num
        line = "\n".join(lines[begin:end]).encode("utf-8", "surrogateescape")
        if begin == 0:
            if tuple(values) != CSV_COLUMNS:
                raise ValueError("it has no header")
        elif len(values) == len(CSV_COLUMNS):
            yield SavedRow(line, values[0], _csv_answer(values, begin + 1))
        elif end < len(lines) and values:
            raise ValueError(f"line {begin + 1} has {len(values)} values")
        begin = end


def _checked_csv(reader: Iterable[list[str]]) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _csv_answer(values: Sequence[str], number: int) -> SavedAnswer | None:
    _, label, confidence, model, version, *_ = values
    if not label:
        return None
    try:
        is_legal = 0 <= float(confidence) <= 1 and 0 < int(version) < 10**MAX_VERSION_DIGITS
    except ValueError:
        is_legal = False
    if not is_legal:
        raise ValueError(f"line {number} is not an answer")
    return SavedAnswer(csv_words(model), int(version), csv_words(label), classes=0)
