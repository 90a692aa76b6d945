"""How `predict` writes each image's answer as it comes: a line of a table, a line of JSON, a row of CSV."""

import csv
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Final, Protocol

from cifar10_serving.client.commands.files import STANDARD_INPUT
from cifar10_serving.client.commands.folder_labels import StoredEvaluation, Tally, evaluation_lines, evaluation_record
from cifar10_serving.client.commands.output import percent, say
from cifar10_serving.errors import ProjectError
from cifar10_serving.schemas import Prediction
from cifar10_serving.text import printable

WIDEST_NAME: Final = 100
NAMES_SHARE: Final = 3
"""A terminal gives a third of its columns to the names."""
NARROWEST_LABELS: Final = 10
"""Columns of the labels until a longer one comes."""
QUOTED_LINE_ENDS: Final = "\r\n"
"""The module csv quotes a text with one of its line ends in it, and no other."""
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet evaluate a text as a formula (OWASP, CSV injection)."""
CSV_COLUMNS: Final = ("file", "label", "confidence", "model", "version", "true_label", "error")


@dataclass(frozen=True, slots=True)
class Row:
    """An image's name, and its answer or why there is none; `true_label` where its folder says so."""

    name: str
    prediction: Prediction | None = None
    error: ProjectError | None = None
    true_label: str | None = None


class Rows(Protocol):
    """Writes rows to standard output."""

    complete: bool
    """Whether an image without an answer is always a row, since a program reads them."""

    def write(self, row: Row) -> None:
        """One more."""

    def write_evaluation(self, tally: Tally, stored: Sequence[StoredEvaluation]) -> None:
        """What all rows together say of the versions that answered, beside what is stored of them."""


class TableRows:
    """Lines whose columns line up, without knowing what comes.

    Args:
        names: all that will come.
    """

    complete = False

    def __init__(self, names: Sequence[str]) -> None:
        self._columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
        widest = max((len(printable(name)) for name in names), default=0)
        self._name_width = min(widest, WIDEST_NAME, self._columns // NAMES_SHARE)
        self._label_width = NARROWEST_LABELS

    def write(self, row: Row) -> None:
        """`cat.png  cat  95.6 %  vgg16/1  dog 0.6 %, ship 0.5 %`; a terminal's line takes what fits of it."""
        name = self._fitting(printable(row.name))
        if row.prediction is None:
            print(f"{name}  error: {printable(str(row.error))}", flush=True)
            return
        found = row.prediction
        label, confidence = printable(found.label), percent(found.confidence).rjust(7)
        self._label_width = max(self._label_width, len(label))
        label = label.ljust(self._label_width)
        wrong = f"not {row.true_label}  " if row.true_label not in {None, found.label} else ""
        others = ", ".join(f"{other.label} {percent(other.probability)}" for other in found.top[1:])
        line = f"{name}  {label}  {confidence}  {found.model}/{found.version}  {wrong}{others}".rstrip()
        line = printable(line)
        print(line if len(line) <= self._columns else f"{line[: self._columns - 1]}…", flush=True)

    def write_evaluation(self, tally: Tally, stored: Sequence[StoredEvaluation]) -> None:
        """Below the table."""
        print("\n".join(["", *evaluation_lines(tally, stored)]))

    def _fitting(self, name: str) -> str:
        width = self._name_width
        return name.ljust(width) if len(name) <= width else f"…{name[len(name) - width + 1 :]}"


class JsonRows:
    """One JSON object a line."""

    complete = True

    def write(self, row: Row) -> None:
        """Print `json_line`, at once: what is killed has printed what it knew."""
        print(json_line(row), flush=True)

    def write_evaluation(self, tally: Tally, stored: Sequence[StoredEvaluation]) -> None:
        """The last line: `{"evaluation": {…}}`."""
        print(json.dumps({"evaluation": evaluation_record(tally, stored)}), flush=True)


class CsvRows:
    """Comma-separated values with a header."""

    complete = True

    def __init__(self) -> None:
        print(CSV_HEADER, flush=True)

    def write(self, row: Row) -> None:
        """Print `csv_line`, at once; on a terminal no name may move the cursor."""
        line = csv_line(row)
        print(printable(line) if sys.stdout.isatty() else line, flush=True)

    def write_evaluation(self, tally: Tally, stored: Sequence[StoredEvaluation]) -> None:
        """On standard error, since it is no row."""
        for line in evaluation_lines(tally, stored):
            say(line)


class NoRows:
    """Prints nothing, where the rows are in a file already that standard output would write to as well."""

    complete = False

    def write(self, row: Row) -> None:
        """Print nothing."""

    def write_evaluation(self, tally: Tally, stored: Sequence[StoredEvaluation]) -> None:
        """On standard error."""
        for line in evaluation_lines(tally, stored):
            say(line)


def json_line(row: Row) -> str:
    """`{"file": …, "prediction": {…}, "error": null}`, and `true_label` where its folder says so."""
    record: dict[str, object] = {
        "file": row.name,
        "prediction": row.prediction.model_dump(mode="json") if row.prediction else None,
        "error": error_record(row.error) if row.error else None,
    }
    if row.true_label is not None:
        record["true_label"] = row.true_label
    return json.dumps(record)


def csv_line(row: Row) -> str:
    """One row of `CSV_COLUMNS`; what there is not stays empty."""
    found = row.prediction
    answer = (_text(found.label), found.confidence, _text(found.model), found.version) if found else ("", "", "", "")
    return _csv((csv_name(row.name), *answer, row.true_label or "", _text(str(row.error)) if row.error else ""))


def csv_name(name: str) -> str:
    """A file's name that no spreadsheet takes for a formula: `./=1+1.png` is the same file as `=1+1.png`."""
    return f"./{name}" if name.startswith(FORMULA) and name != STANDARD_INPUT else name


def _text(words: str) -> str:
    """Words of the server's that no spreadsheet takes for a formula."""
    return f"'{words}" if words.startswith(FORMULA) else words


def csv_words(text: str) -> str:
    """Words of the server's as they were before they were written into a row."""
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def _csv(values: Sequence[object]) -> str:
    stream = StringIO()
    csv.writer(stream, lineterminator=QUOTED_LINE_ENDS).writerow(values)
    return stream.getvalue().removesuffix(QUOTED_LINE_ENDS)


CSV_HEADER: Final = _csv(CSV_COLUMNS)


def error_record(error: ProjectError) -> dict[str, str]:
    """An error for programs: its class, and its words apart."""
    words = {"problem": error.problem, "expected": error.expected, "remedy": error.remedy}
    return {"name": type(error).__name__} | {name: text for name, text in words.items() if text}
