"""Answers as bytes."""

import pytest

from service.http.exchange import CLOSE, Answer, encode_answer

DATE = ((b"date", b"today"),)


def test_answer_has_its_headers_those_of_all_answers_and_its_length() -> None:
    head, _, body = encode_answer(Answer(b"{}", status=503), DATE, b"one", closes=False).partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    assert (status, body) == (b"HTTP/1.1 503 Service Unavailable", b"{}")
    assert sorted(lines) == [
        b"content-length: 2",
        b"content-type: application/json",
        b"date: today",
        b"referrer-policy: no-referrer",
        b"x-content-type-options: nosniff",
        b"x-request-id: one",
    ]


def test_answer_to_several_requests_has_no_id() -> None:
    assert b"x-request-id" not in encode_answer(Answer(b""), DATE, None, closes=False)


@pytest.mark.parametrize("headers", [(), (CLOSE,)])
def test_answer_says_once_that_its_connection_closes(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    assert encode_answer(Answer(b"", headers), DATE, None, closes=True).count(b"connection: close") == 1


def test_answers_follow_the_server_s_date() -> None:
    for day in (b"Monday", b"Tuesday"):
        assert b"date: " + day in encode_answer(Answer(b""), ((b"date", day),), None, closes=False)
