import json
import logging
import sys
from io import StringIO

import pytest

from service.telemetry.logs import JsonFormatter, TextFormatter, is_for_people

HOSTILE = 'a\nb\r\x1b[31m\x00\x7f\x85\x9b\u2028\u202e\udcff\U000e0001 {"level":"error"} é猫'
"""Line ends, terminal codes, marks that turn text around, a byte that is no UTF-8, and what is harmless."""


def record(message: str, error: Exception | None = None) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("service.x", logging.WARNING, "x.py", 1, "said %s", (message,), exc_info)


def raised(message: str) -> Exception:
    try:
        int(message)
    except ValueError as error:
        error.args = (message,)
        return error
    raise AssertionError


def test_json_line_is_one_line_of_printable_characters_that_says_the_same() -> None:
    line = JsonFormatter().format(record(HOSTILE, raised(HOSTILE)))
    assert line.isprintable()
    entry = json.loads(line)
    assert entry["message"] == f"said {HOSTILE}"
    assert entry["level"] == "warning"
    assert HOSTILE in entry["exception"]
    assert "猫" in line


def test_text_line_is_one_line_of_printable_characters() -> None:
    line = TextFormatter().format(record(HOSTILE))
    assert line.isprintable()
    assert "warning" in line
    assert r"a\nb\r\x1b[31m\x00\x7f\x85\x9b\u2028\u202e\udcff" in line
    assert "é猫" in line


def test_no_line_of_an_exception_looks_like_an_entry_of_its_own() -> None:
    first, *others = TextFormatter().format(record("x", raised(HOSTILE))).split("\n")
    assert first.isprintable()
    assert len(others) > 2
    assert all(line.startswith("    ") and line.isprintable() for line in others)


class _Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_for_people_where_asked_for_or_where_a_terminal_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Terminal())
    assert [is_for_people(form) for form in ("auto", "json", "text")] == [True, False, True]
    monkeypatch.setattr(sys, "stderr", StringIO())
    assert [is_for_people(form) for form in ("auto", "json", "text")] == [False, False, True]
    sys.stderr.close()
    assert not is_for_people("auto")
