import json
from io import BytesIO

import pytest

from service.core.observation import Observation
from service.request_log import MAX_TEXT_LENGTH, RequestLog
from tests.service.test_logging import HOSTILE

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def logged(observation: Observation, *, for_people: bool = False) -> str:
    stream = BytesIO()
    log = RequestLog(1.0, stream, for_people=for_people)
    log(observation)
    log.flush()
    return stream.getvalue().decode()


def rejected() -> Observation:
    observation = Observation("POST", "/predict", "id-1", status=404, client="192.0.2.1:40000")
    observation.request_model("vgg61", "stable")
    observation.fail("not-found", "there is no model 'vgg61'")
    return observation


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
    assert " (not a request)  400 " in logged(Observation("", "", "id", status=400), for_people=True)


@pytest.mark.parametrize("for_people", [False, True])
async def test_nothing_that_a_client_sends_ends_a_line_or_reaches_a_terminal(for_people: bool) -> None:
    observation = Observation(HOSTILE, HOSTILE, HOSTILE, status=400, client=HOSTILE)
    observation.request_model(HOSTILE, HOSTILE)
    observation.fail(HOSTILE, HOSTILE)
    line = logged(observation, for_people=for_people)
    assert line[:-1].isprintable()
    assert line[-1] == "\n"
    if not for_people:
        assert json.loads(line)["detail"] == HOSTILE


async def test_long_texts_are_cut() -> None:
    observation = Observation("GET", "/" + "x" * 100_000, "id", status=404)
    observation.fail("not-found", "y" * 100_000)
    assert len(logged(observation)) < 3 * MAX_TEXT_LENGTH
    assert len(logged(observation, for_people=True)) < 3 * MAX_TEXT_LENGTH
