"""Output formats of `predict`: lines of a table, JSON lines, or rows of CSV."""

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
"""Width of the label column until a longer label comes."""
QUOTED_LINE_ENDS: Final = "\r\n"
"""The module csv quotes a text that contains one of its line ends, and no other."""
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet evaluate a text as a formula (OWASP, CSV injection)."""
CSV_COLUMNS: Final = ("file", "label", "confidence", "model", "version", "true_label", "error")


@dataclass(frozen=True, slots=True)
class Row:
    """An image's name, and its answer or error; `true_label` if its folder names one."""

    name: str
    prediction: Prediction | None = None
    error: ProjectError | None = None
    true_label: str | None = None


class Rows(Protocol):
    """Writes rows to standard output."""

    complete: bool
    """True if images without an answer always have a row, for programs that read it."""

    def write(self, row: Row) -> None:
        """Write a row."""

    def write_evaluation(self, tally: Tally, stored: Sequence[StoredEvaluation]) -> None:
        """Write the evaluation of all rows, with the stored evaluations of the same versions."""


class TableRows:
    """Lines with aligned columns, printed before the other rows are known.

    Args:
        names: all names that will come.
    """

    complete = False

    def __init__(self, names: Sequence[str]) -> None:
        self._columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
        widest = max((len(printable(name)) for name in names), default=0)
        self._name_width = min(widest, WIDEST_NAME, self._columns // NAMES_SHARE)
        self._label_width = NARROWEST_LABELS

    def write(self, row: Row) -> None:
        """Write `cat.png  cat  95.6 %  vgg16/1  dog 0.6 %, ship 0.5 %`, shortened to a terminal's width."""
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
        """Write the evaluation below the table."""
        print("\n".join(["", *evaluation_lines(tally, stored)]))

    def _fitting(self, name: str) -> str:
        width = self._name_width
        return name.ljust(width) if len(name) <= width else f"…{name[len(name) - width + 1 :]}"


class JsonRows:
    """One JSON object per line."""

    complete = True

    def write(self, row: Row) -> None:
        """Print `json_line` at once, so that a killed run has printed its answers."""
        print(json_line(row), flush=True)

    def write_evaluation(self, tally: Tally, stored: Sequence[StoredEvaluation]) -> None:
        """Write the last line: `{"evaluation": {…}}`."""
        print(json.dumps({"evaluation": evaluation_record(tally, stored)}), flush=True)


class CsvRows:
    """Comma-separated values with a header."""

    complete = True

    def __init__(self) -> None:
        print(CSV_HEADER, flush=True)

    def write(self, row: Row) -> None:
        """Print `csv_line` at once; on a terminal, names are escaped so that they can't move the cursor."""
        line = csv_line(row)
        print(printable(line) if sys.stdout.isatty() else line, flush=True)

    def write_evaluation(self, tally: Tally, stored: Sequence[StoredEvaluation]) -> None:
        """Write the evaluation to standard error, since it is not a row."""
        for line in evaluation_lines(tally, stored):
            say(line)


class NoRows:
    """Prints nothing, if standard output is the file that already has the rows."""

    complete = False

    def write(self, row: Row) -> None:
        """Print nothing."""

    def write_evaluation(self, tally: Tally, stored: Sequence[StoredEvaluation]) -> None:
        """Write the evaluation to standard error."""
        for line in evaluation_lines(tally, stored):
            say(line)


def json_line(row: Row) -> str:
    """Return `{"file": …, "prediction": {…}, "error": null}`, with `true_label` if its folder names one."""
    record: dict[str, object] = {
        "file": row.name,
        "prediction": row.prediction.model_dump(mode="json") if row.prediction else None,
        "error": error_record(row.error) if row.error else None,
    }
    if row.true_label is not None:
        record["true_label"] = row.true_label
    return json.dumps(record)


def csv_line(row: Row) -> str:
    """Return one row of `CSV_COLUMNS`; missing values are empty."""
    found = row.prediction
    answer = (_text(found.label), found.confidence, _text(found.model), found.version) if found else ("", "", "", "")
    return _csv((csv_name(row.name), *answer, row.true_label or "", _text(str(row.error)) if row.error else ""))


def csv_name(name: str) -> str:
    """Return a file's name that spreadsheets don't evaluate: `./=1+1.png` is the same file as `=1+1.png`."""
    return f"./{name}" if name.startswith(FORMULA) and name != STANDARD_INPUT else name


def _text(words: str) -> str:
    """Return a server's text that spreadsheets don't evaluate as a formula."""
    return f"'{words}" if words.startswith(FORMULA) else words


def csv_words(text: str) -> str:
    """Return a server's text as it was before it was written to a row."""
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def _csv(values: Sequence[object]) -> str:
    stream = StringIO()
    csv.writer(stream, lineterminator=QUOTED_LINE_ENDS).writerow(values)
    return stream.getvalue().removesuffix(QUOTED_LINE_ENDS)


CSV_HEADER: Final = _csv(CSV_COLUMNS)


def error_record(error: ProjectError) -> dict[str, str]:
    """Return an error as JSON's types: its class, and its parts."""
    words = {"problem": error.problem, "expected": error.expected, "remedy": error.remedy}
    return {"name": type(error).__name__} | {name: text for name, text in words.items() if text}
