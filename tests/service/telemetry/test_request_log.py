import json
from io import BytesIO

import pytest

from service.telemetry.logs import MAX_TEXT_LENGTH, RequestLog
from service.telemetry.trace import Trace
from tests.service.telemetry.test_logging import HOSTILE

pytestmark = pytest.mark.anyio


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
