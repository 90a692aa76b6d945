"""What is tried again and what is not, how long is waited, and that no call outlives its total time-out."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

import client
from client import ClientError, Retries, Timeouts
from tests.client.asking import Ask, ask_sync, both
from tests.client.scripted_server import ANSWERED, PREDICTION, http_answer, problem, scripted_server

QUICK = {"retries": Retries(attempts=3, first_wait_s=0.01, longest_wait_s=0.02)}
LOST = b""


def options(**timeouts: float) -> dict[str, Any]:
    return QUICK | {"timeouts": Timeouts(**timeouts)}


@both
@pytest.mark.parametrize(
    "first",
    [
        problem(503, "unavailable"),
        http_answer(503, "text/html", "<h1>"),
        http_answer(502, "text/html", "<h1>"),
        http_answer(429, "text/plain", "slow down"),
        LOST,
        ANSWERED[:-10],
    ],
    ids=["503", "503 of a proxy", "502", "429", "lost before", "lost within"],
)
def test_passing_failure_is_tried_again_with_the_same_request(ask: Ask, first: bytes) -> None:
    with scripted_server(first, first, ANSWERED) as scripted:
        assert ask(scripted.url, "predict", b"the image", options=QUICK) == PREDICTION
    assert len(scripted.requests) == 3
    assert len(set(scripted.requests)) == 1
    assert scripted.requests[0].endswith(b"the image")


@both
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(400, "undecodable-image"), client.UndecodableError),
        (problem(500, "internal-error"), client.InternalError),
        (problem(504, "deadline-passed"), client.DeadlineError),
        (http_answer(504, "text/html", ""), client.GatewayError),
        (http_answer(200, "text/html", ""), client.UnexpectedAnswerError),
    ],
    ids=["400", "500", "504", "504 of a proxy", "foreign"],
)
def test_what_would_fail_again_is_asked_once(ask: Ask, answer: bytes, error: type[ClientError]) -> None:
    with scripted_server(answer) as scripted, pytest.raises(error):
        ask(scripted.url, "predict", b"x", options=QUICK)
    assert len(scripted.requests) == 1


@both
def test_attempts_are_bounded_and_the_last_error_is_raised(ask: Ask) -> None:
    with scripted_server(LOST, problem(503, "unavailable")) as scripted, pytest.raises(client.UnavailableError):
        ask(scripted.url, "predict", b"x", options=QUICK)
    assert len(scripted.requests) == 3


@both
def test_retry_after_is_waited_for(ask: Ask) -> None:
    with scripted_server(problem(503, "unavailable", Retry_After="1"), ANSWERED) as scripted:
        ask(scripted.url, "predict", b"x", options=QUICK)
    first_s, second_s = scripted.arrived_s
    assert 1 <= second_s - first_s < 1.5


@both
def test_retry_after_beyond_the_total_time_out_is_not_waited_for(ask: Ask) -> None:
    with scripted_server(problem(503, "unavailable", Retry_After="30")) as scripted:
        begin_s = time.monotonic()
        with pytest.raises(client.UnavailableError) as raised:
            ask(scripted.url, "predict", b"x", options=options(total_s=20))
    assert time.monotonic() - begin_s < 5
    assert raised.value.retry_after_s == 30


@both
@pytest.mark.parametrize(("retry_after", "seconds"), [("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("soon", None), ("", None)])
def test_retry_after_may_be_a_date_or_nonsense(ask: Ask, retry_after: str, seconds: float | None) -> None:
    answer = problem(503, "unavailable", Retry_After=retry_after)
    with scripted_server(answer) as scripted, pytest.raises(client.UnavailableError) as raised:
        ask(scripted.url, "predict", b"x", options={"retries": Retries(attempts=1)})
    assert raised.value.retry_after_s == seconds


@both
def test_retry_after_may_be_a_date_to_come(ask: Ask) -> None:
    to_come = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    answer = problem(503, "unavailable", Retry_After=to_come)
    with scripted_server(answer) as scripted, pytest.raises(client.UnavailableError) as raised:
        ask(scripted.url, "predict", b"x", options=options(total_s=50))
    assert raised.value.retry_after_s is not None
    assert 90 < raised.value.retry_after_s <= 100


@both
def test_call_may_take_as_long_as_it_takes(ask: Ask) -> None:
    endless = QUICK | {"timeouts": Timeouts(total_s=None)}
    with scripted_server(LOST, ANSWERED) as scripted:
        assert ask(scripted.url, "predict", b"x", options=endless) == PREDICTION


@both
@pytest.mark.parametrize("head_at_once", [True, False], ids=["body", "head"])
def test_answer_that_trickles_in_is_given_up_after_the_total_time_out(ask: Ask, head_at_once: bool) -> None:
    with scripted_server(ANSWERED, byte_every_s=0.05, head_at_once=head_at_once) as scripted:
        begin_s = time.monotonic()
        with pytest.raises(client.AnswerTimeoutError, match=r"no answer within 0\.3 s"):
            ask(scripted.url, "predict", b"x", options=options(total_s=0.3))
        assert 0.3 <= time.monotonic() - begin_s < 2


def test_trickle_is_given_up_through_a_proxy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_server(ANSWERED, byte_every_s=0.05, head_at_once=False) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        begin_s = time.monotonic()
        with pytest.raises(client.AnswerTimeoutError, match=r"no answer within 0\.3 s"):
            ask_sync("http://far.invalid", "predict", b"x", options=options(total_s=0.3))
        assert time.monotonic() - begin_s < 2
        assert proxy.requests[0].startswith(b"POST http://far.invalid/predict ")


@both
def test_request_that_is_taken_slowly_is_given_up_after_the_total_time_out(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as threads:
        done = threading.Event()
        threads.submit(read_slowly, listening, done)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        begin_s = time.monotonic()
        with pytest.raises(client.AnswerTimeoutError, match=r"no answer within 0\.3 s"):
            ask(url, "predict", bytes(2**25), options=options(total_s=0.3))
        assert time.monotonic() - begin_s < 2
        done.set()


def read_slowly(listening: socket.socket, done: threading.Event) -> None:
    connection, _ = listening.accept()
    with connection:
        while not done.wait(0.02):
            connection.recv(65536)


@both
def test_slow_answer_is_given_up_after_the_read_time_out_and_not_asked_again(ask: Ask) -> None:
    with scripted_server(ANSWERED, delay_s=5) as scripted:
        with pytest.raises(client.AnswerTimeoutError, match="within the read time-out"):
            ask(scripted.url, "predict", b"x", options=options(read_s=0.1))
        assert len(scripted.requests) == 1


@both
def test_total_time_out_bounds_the_call_with_all_its_retries(ask: Ask) -> None:
    patient = {"retries": Retries(attempts=1000, first_wait_s=0.02, longest_wait_s=0.02)}
    with scripted_server(LOST) as scripted:
        begin_s = time.monotonic()
        with pytest.raises((client.ConnectionLostError, client.AnswerTimeoutError)):
            ask(scripted.url, "predict", b"x", options=patient | {"timeouts": Timeouts(total_s=0.4)})
        assert 0.2 < time.monotonic() - begin_s < 2
    assert len(scripted.requests) > 2


@both
def test_readiness_is_asked_once_and_not_ready_is_an_answer(ask: Ask) -> None:
    body = '{"ready":false,"reason":"models are being loaded","models":{}}'
    with scripted_server(http_answer(503, "application/json", body, Retry_After="1")) as scripted:
        readiness = ask(scripted.url, "ready", options=QUICK)
    assert (readiness.ready, readiness.reason) == (False, "models are being loaded")
    assert len(scripted.requests) == 1
