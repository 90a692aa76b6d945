"""Answers from something else, or none: one clear error each."""

import socket
from collections.abc import Callable

import pytest

from cifar10_serving import client
from cifar10_serving.client import ClientError, Retries
from tests.cifar10_serving.client.asking import Ask, both
from tests.cifar10_serving.client.scripted_server import (
    ANSWERED,
    HTML,
    PREDICTION,
    http_answer,
    problem,
    scripted_server,
)
from tests.e2e.server import Server, free_port

ONCE = {"retries": Retries(attempts=1)}


@both
@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (
            HTML,
            client.UnexpectedAnswerError,
            "200 OK with text/html, '<!doctype html> <title>Router.*check the address",
        ),
        (http_answer(404, "text/html", "<html>"), client.UnexpectedAnswerError, "404 Not Found with text/html"),
        (http_answer(404, "application/json", '{"detail":"Not Found"}'), client.UnexpectedAnswerError, "404"),
        (http_answer(200, "application/json", '{"status":"ok"}'), client.UnexpectedAnswerError, "is not a Prediction"),
        (http_answer(200, "application/json", "{"), client.UnexpectedAnswerError, "is not a Prediction: Invalid JSON"),
        (http_answer(200, "image/png", "\x00\x01"), client.UnexpectedAnswerError, "200 OK with image/png. What"),
        (
            http_answer(301, "text/html", "", Location="https://x/"),
            client.UnexpectedAnswerError,
            "points to https://x/",
        ),
        (
            http_answer(200, "application/json", "x", Content_Encoding="gzip, gzip"),
            client.UnexpectedAnswerError,
            "answered with the encodings gzip, gzip",
        ),
        (
            http_answer(200, "application/json", "as it is", Content_Encoding="gzip"),
            client.UnexpectedAnswerError,
            "incorrect header check",
        ),
        (http_answer(200, "application/json", "[" * 100_000), client.UnexpectedAnswerError, "Invalid JSON"),
        (http_answer(204, "application/json", ""), client.UnexpectedAnswerError, "204 No Content"),
        (http_answer(407, "text/html", "<h1>"), client.UnexpectedAnswerError, "407 Proxy Authentication"),
        (http_answer(299, "", ""), client.UnexpectedAnswerError, "299 with no content type"),
        (http_answer(502, "text/html", "<h1>"), client.GatewayError, "in front of the service: 502 Bad Gateway"),
        (http_answer(401, "text/html", "<h1>"), client.UnauthorizedError, "front of the service: 401.*check the token"),
        (http_answer(403, "text/html", "<h1>"), client.UnauthorizedError, "front of the service: 403 Forbidden"),
        (b"220 mail.example.org ESMTP\r\n\r\n", client.UnexpectedAnswerError, "not answered in HTTP"),
        (ANSWERED[:-20], client.ConnectionLostError, "the connection broke before the answer"),
        (b"", client.ConnectionLostError, "the connection broke before the answer"),
        (problem(500, "internal-error"), client.InternalError, "what was wrong"),
        (problem(400, "of-tomorrow"), client.ProblemError, "what was wrong"),
        (
            http_answer(
                400, "application/problem+json", '{"type":"about:blank","title":"t","status":400,"detail":"d"}'
            ),
            client.UnexpectedAnswerError,
            "400 Bad Request with application/problem",
        ),
    ],
)
def test_answer_that_is_none_of_the_service_is_one_clear_error(
    ask: Ask, answer: bytes, error: type[ClientError], words: str
) -> None:
    with scripted_server(answer) as scripted, pytest.raises(error, match=words) as raised:
        ask(scripted.url, "predict", b"x", options=ONCE)
    assert f"POST {scripted.url}/predict" in str(raised.value) or isinstance(raised.value, client.ProblemError)
    assert "\n" not in str(raised.value)


def test_fields_of_a_later_service_are_passed_over() -> None:
    newer = (
        PREDICTION.model_dump_json()
        .replace('"model"', '"invented_later":1,"model"')
        .replace('"probability"', '"invented_too":2,"probability"')
    )
    with (
        scripted_server(http_answer(200, "application/json", newer)) as scripted,
        client.Client(scripted.url) as asking,
    ):
        assert asking.predict(b"x") == PREDICTION


@both
@pytest.mark.parametrize(
    ("url", "words"),
    [
        (lambda _: f"http://127.0.0.1:{free_port()}", "no connection.*start the service"),
        (lambda _: "http://no-such-host.invalid", "no connection"),
        (lambda server: server.url.replace("http:", "https:"), "certificate, or use http://"),
    ],
    ids=["nobody listens", "no such host", "no TLS there"],
)
def test_service_that_can_not_be_reached_is_one_clear_error(
    server: Server, ask: Ask, url: Callable[[Server], str], words: str
) -> None:
    with pytest.raises(client.UnreachableError, match=words):
        ask(url(server), "models", options=ONCE)


@both
def test_name_and_password_of_an_address_are_never_shown(ask: Ask) -> None:
    with pytest.raises(client.UnreachableError) as raised:
        ask(f"http://user:pass@127.0.0.1:{free_port()}", "models", options=ONCE)
    assert "pass" not in str(raised.value)


@both
def test_answer_without_end_is_given_up(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cifar10_serving.client._client", "cifar10_serving.client._async_client"):
        monkeypatch.setattr(f"{module}.MAX_ANSWER_BYTES", 1000)
    answer = http_answer(200, "application/json", "x" * 5000)
    with scripted_server(answer) as scripted, pytest.raises(client.UnexpectedAnswerError, match="more than"):
        ask(scripted.url, "models")


@both
def test_connect_time_out_is_told(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as full:
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        try:
            options = ONCE | {"timeouts": client.Timeouts(connect_s=0.2)}
            with pytest.raises(client.UnreachableError, match="connect time-out"):
                ask(f"http://127.0.0.1:{full.getsockname()[1]}", "models", options=options)
        finally:
            for one in waiting:
                one.close()
