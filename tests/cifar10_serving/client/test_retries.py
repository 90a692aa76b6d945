"""The errors that are retried, and the waits between attempts; no call exceeds its total time-out."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from cifar10_serving import client
from cifar10_serving.client import AsyncClient, Client, ClientError, Retries, Timeouts
from tests.cifar10_serving.client.asking import Ask, ask_sync, both, noted
from tests.cifar10_serving.client.scripted_server import ANSWERED, PREDICTION, http_answer, problem, scripted_server
from tests.e2e.server import Server, free_port

QUICK = {"retries": Retries(attempts=3, first_wait_s=0.01, longest_wait_s=0.02)}
LOST = b""
LONG = http_answer(200, "application/json", PREDICTION.model_dump_json() + " " * 10_000, X_Long="x" * 10_000)
"""An answer of which a byte every 50 ms takes longer than any test may."""


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
    assert second_s - first_s >= 1


@both
def test_retry_after_beyond_the_total_time_out_is_not_waited_for(ask: Ask) -> None:
    # A test that waited so long would be ended by the suite's own limit.
    with scripted_server(problem(503, "unavailable", Retry_After="3000")) as scripted:
        with pytest.raises(client.UnavailableError) as raised:
            ask(scripted.url, "predict", b"x", options=options(total_s=2000))
        assert len(scripted.requests) == 1
    assert raised.value.retry_after_s == 3000


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
    with scripted_server(LONG, byte_every_s=0.05, head_at_once=head_at_once) as scripted:
        begin_s = time.monotonic()
        with pytest.raises(client.AnswerTimeoutError, match=r"no answer within 0\.3 s"):
            ask(scripted.url, "predict", b"x", options=options(total_s=0.3))
        assert time.monotonic() - begin_s >= 0.3


def test_trickle_is_given_up_through_a_proxy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_server(LONG, byte_every_s=0.05, head_at_once=False) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with pytest.raises(client.AnswerTimeoutError, match=r"no answer within 0\.3 s"):
            ask_sync("http://far.invalid", "predict", b"x", options=options(total_s=0.3))
        assert proxy.requests[0].startswith(b"POST http://far.invalid/predict ")


@both
def test_request_that_is_taken_slowly_is_given_up_after_the_total_time_out(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as threads:
        done = threading.Event()
        reading = threads.submit(read_slowly, listening, done)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(client.AnswerTimeoutError, match=r"no answer within 0\.3 s"):
            ask(url, "predict", bytes(2**25), options=options(total_s=0.3))
        done.set()
        assert reading.result() < 2**25  # it was given up while there was more to take


def read_slowly(listening: socket.socket, done: threading.Event) -> int:
    """Take a part of a request from time to time; return how many bytes that were."""
    taken = 0
    connection, _ = listening.accept()
    with connection:
        while not done.wait(0.02):
            taken += len(connection.recv(65536))
    return taken


@both
def test_slow_answer_is_given_up_after_the_read_time_out_and_not_asked_again(ask: Ask) -> None:
    with scripted_server(ANSWERED, delay_s=5) as scripted:
        with pytest.raises(client.AnswerTimeoutError, match="within the read time-out"):
            ask(scripted.url, "predict", b"x", options=options(read_s=0.1))
        assert len(scripted.requests) == 1


@both
def test_total_time_out_bounds_the_call_with_all_its_retries(ask: Ask) -> None:
    patient = {"retries": Retries(attempts=10**6, first_wait_s=0.02, longest_wait_s=0.02)}
    with scripted_server(LOST) as scripted:
        begin_s = time.monotonic()
        with pytest.raises((client.ConnectionLostError, client.AnswerTimeoutError, client.UnreachableError)):
            ask(scripted.url, "predict", b"x", options=patient | {"timeouts": Timeouts(total_s=0.4)})
        assert time.monotonic() - begin_s > 0.2
    assert len(scripted.requests) > 2


@both
def test_readiness_is_asked_once_and_not_ready_is_an_answer(ask: Ask) -> None:
    body = '{"ready":false,"reason":"models are being loaded","models":{}}'
    with scripted_server(http_answer(503, "application/json", body, Retry_After="1")) as scripted:
        readiness = ask(scripted.url, "ready", options=QUICK)
    assert (readiness.ready, readiness.reason) == (False, "models are being loaded")
    assert len(scripted.requests) == 1


@contextlib.contextmanager
def away(port: int, *, comes_back: bool) -> Iterator[None]:
    """Nobody listens; and where it comes back, somebody does after a while, who says at first that it isn't ready."""
    gone = threading.Event()
    answers = (problem(503, "unavailable", Retry_After="0"), LOST, ANSWERED)

    def come_back() -> None:
        time.sleep(0.5)  # of attempts that wait 0.02 s at most there are more than twenty in this time
        with scripted_server(*answers, port=port):
            gone.wait(30)

    with ThreadPoolExecutor(1) as threads:
        back = threads.submit(come_back) if comes_back else None
        try:
            yield
        finally:
            gone.set()
            if back is not None:
                back.result()


SOON = Retries(first_wait_s=0.01, longest_wait_s=0.02)
REACHED = Retries(first_wait_s=0.01, longest_wait_s=0.02, attempts_before_contact=1)


def test_service_that_restarts_is_waited_for() -> None:
    with scripted_server(ANSWERED) as scripted:
        asking = Client(scripted.url, retries=REACHED, timeouts=Timeouts(total_s=30))
        asking.predict(b"x")
    with away(asking.base_url.port or 0, comes_back=True), asking:
        assert asking.predict(b"x") == PREDICTION


@pytest.mark.anyio
async def test_service_that_restarts_is_waited_for_by_asyncio() -> None:
    with scripted_server(ANSWERED) as scripted:
        asking = AsyncClient(scripted.url, retries=REACHED, timeouts=Timeouts(total_s=30))
        await asking.predict(b"x")
    with away(asking.base_url.port or 0, comes_back=True):
        async with asking:
            assert await asking.predict(b"x") == PREDICTION


@both
def test_service_that_restarts_loses_no_image_of_many(ask: Ask) -> None:
    port = free_port()
    with away(port, comes_back=True):
        url = f"http://localhost:{port}"  # which has two addresses: asyncio's error is then a group
        results = ask(url, "predict_many", [b"x"] * 100, options={"retries": SOON, "timeouts": Timeouts(total_s=30)})
    assert [result.error for result in results] == [None] * 100


@both
def test_service_that_stays_away_is_waited_for_until_the_total_time_out(ask: Ask) -> None:
    options = {"retries": SOON, "timeouts": Timeouts(total_s=0.5)}
    begin_s = time.monotonic()
    with pytest.raises((client.UnreachableError, client.AnswerTimeoutError)):
        ask(f"http://127.0.0.1:{free_port()}", "predict", b"x", options=options)
    assert time.monotonic() - begin_s > 0.3


@both
def test_address_that_has_never_answered_is_given_up_sooner(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    monkeypatch.setattr(Retries, "wait_s", noted(waits))
    for url, retries in (
        (f"http://127.0.0.1:{free_port()}", Retries(attempts_before_contact=3)),
        ("http://no-such-host.invalid", Retries()),
    ):
        waits.clear()
        with pytest.raises(client.UnreachableError):
            ask(url, "models", options={"retries": retries})
        assert 2 <= len(waits) <= 3


@both
def test_connection_that_breaks_each_time_is_given_up(ask: Ask) -> None:
    with scripted_server(LOST) as scripted, pytest.raises(client.ConnectionLostError):
        ask(scripted.url, "predict", b"x", options={"retries": SOON})
    assert len(scripted.requests) == 4


@both
def test_what_waiting_does_not_help_is_asked_once(server: Server, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    monkeypatch.setattr(Retries, "wait_s", noted(waits))
    with pytest.raises(client.UnreachableError, match="certificate, or use http"):
        ask(server.url.replace("http:", "https:"), "models")
    with scripted_server(http_answer(403, "text/plain", "no")) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(client.UnreachableError, match=r"403.*check the proxy"):
            ask("https://far.invalid", "models")
    assert waits == []


@both
@pytest.mark.parametrize(
    "retry_after", ["9" * 20, "9" * 400, "Wed, 99 Oct 2015", "Fri, 31 Dec 9999 23:59:59 -9999", "-1"]
)
def test_retry_after_of_any_size_is_survived(ask: Ask, retry_after: str) -> None:
    endless = {"retries": Retries(attempts=2, first_wait_s=0), "timeouts": Timeouts(total_s=None)}
    answer = problem(503, "unavailable", Retry_After=retry_after)
    with scripted_server(answer) as scripted, pytest.raises(client.UnavailableError):
        ask(scripted.url, "predict", b"x", options=endless)
