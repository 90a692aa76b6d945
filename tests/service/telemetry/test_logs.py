import json
import logging
import subprocess
import sys
from io import BytesIO, StringIO

import pytest

from service.telemetry.logs import MAX_TEXT_LENGTH, JsonFormatter, RequestLog, TextFormatter, is_for_people
from service.telemetry.trace import Trace
from tests.conftest import ROOT

HOSTILE = 'a\nb\r\x1b[31m\x00\x7f\x85\x9b\u2028\u202e\udcff\U000e0001 {"level":"error"} é猫'
"""Line ends, terminal codes, marks that turn text around, a byte that is no UTF-8, and what is harmless."""

pytestmark = pytest.mark.anyio


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


def logged(trace: Trace, *, for_people: bool = False) -> str:
    stream = BytesIO()
    log = RequestLog(1.0, stream, for_people=for_people)
    log(trace)
    log.flush()
    return stream.getvalue().decode()


def rejected() -> Trace:
    trace = Trace("POST", "/predict", "id-1", status=404, client="192.0.2.1:40000")
    trace.request_model("vgg61", "stable")
    trace.fail("not-found", "there is no model 'vgg61'")
    return trace


async def test_line_says_who_asked_for_what_and_why_there_is_no_answer() -> None:
    entry = json.loads(logged(rejected()))
    assert entry["client"] == "192.0.2.1:40000"
    assert entry["requested_model"] == "vgg61/stable"
    assert (entry["error"], entry["detail"]) == ("not-found", "there is no model 'vgg61'")
    assert "model" not in entry


async def test_line_for_people_is_no_json_and_says_the_same() -> None:
    line = logged(rejected(), for_people=True)
    assert line.endswith("\n")
    for part in ("POST /predict", "404", "192.0.2.1:40000", "vgg61/stable", "there is no model 'vgg61'"):
        assert part in line
    assert "{" not in line
    assert " (not a request)  400 " in logged(Trace("", "", "id", status=400), for_people=True)


@pytest.mark.parametrize("for_people", [False, True])
async def test_nothing_that_a_client_sends_ends_a_line_or_reaches_a_terminal(for_people: bool) -> None:
    trace = Trace(HOSTILE, HOSTILE, HOSTILE, status=400, client=HOSTILE)
    trace.request_model(HOSTILE, HOSTILE)
    trace.fail(HOSTILE, HOSTILE)
    line = logged(trace, for_people=for_people)
    assert line[:-1].isprintable()
    assert line[-1] == "\n"
    if not for_people:
        assert json.loads(line)["detail"] == HOSTILE


async def test_long_texts_are_cut() -> None:
    trace = Trace("GET", "/" + "x" * 100_000, "id", status=404)
    trace.fail("not-found", "y" * 100_000)
    assert len(logged(trace)) < 3 * MAX_TEXT_LENGTH
    assert len(logged(trace, for_people=True)) < 3 * MAX_TEXT_LENGTH


def test_handlers_of_other_loggers_stay_open() -> None:
    program = """
import logging, logging.handlers
from service.telemetry.logs import configure_logging
handler = logging.handlers.MemoryHandler(10, target=logging.NullHandler())
logging.getLogger("other").addHandler(handler)
configure_logging("info", "json")
assert handler.target is not None
logging.getLogger("service").info("hello")
logging.getLogger("service").debug("too detailed")
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [json.loads(line)["message"] for line in result.stderr.splitlines()] == ["hello"]
