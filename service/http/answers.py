"""Complete answers, and their two forms: responses for FastAPI, and bytes for a connection."""

from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from fastapi import Response

from cifar10_serving.artifacts.metadata import Record

RawHeader = tuple[bytes, bytes]
HeaderLines = tuple[RawHeader, ...]

JSON_HEADER: Final = (b"content-type", b"application/json")
JSON_HEADERS: Final = (JSON_HEADER,)
CLOSE: Final = (b"connection", b"close")
SECURITY_HEADERS: Final = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
"""Browsers don't guess another type, and linked sites don't learn from which service a user comes."""
REQUEST_ID: Final = b"x-request-id"
STATUS_LINES: Final[dict[int, bytes]] = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. `headers` excludes the headers that every answer has and the length of the body."""

    body: bytes
    headers: HeaderLines = JSON_HEADERS
    status: int = HTTPStatus.OK

    def raw_headers(self) -> list[RawHeader]:
        """Return the headers with the length of the body."""
        return [*self.headers, (b"content-length", b"%d" % len(self.body))]


def record_answer(record: Record) -> Answer:
    """Return a record as an answer, without validating it again as FastAPI would."""
    return Answer(record.model_dump_json().encode())


def to_response(answer: Answer) -> Response:
    """Return an answer in the form that FastAPI's routes and handlers return."""
    response = Response(answer.body, answer.status)
    response.raw_headers = answer.raw_headers()
    return response


def encode_answer(answer: Answer, server_headers: HeaderLines, request_id: bytes | None, *, closes: bool) -> bytes:
    """Return an answer as bytes, with the headers that every answer has.

    Args:
        server_headers: headers of the server, such as `date`.
        request_id: the request's id; None for an answer that several requests get.
        closes: whether to announce that the connection closes.
    """
    if closes and CLOSE not in answer.headers:
        server_headers = (*server_headers, CLOSE)
    id_line = b"" if request_id is None else b"%b: %b\r\n" % (REQUEST_ID, request_id)
    return b"%b%b%bcontent-length: %d\r\n\r\n%b" % (
        STATUS_LINES[answer.status],
        _header_lines((*server_headers, *answer.headers, *SECURITY_HEADERS)),
        id_line,
        len(answer.body),
        answer.body,
    )


@lru_cache(maxsize=256)
def _header_lines(headers: HeaderLines) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)
