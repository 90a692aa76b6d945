"""The one renderer of errors: from whatever was raised to an answer, in the style of the protocol that was spoken.

Native routes answer with problem documents (RFC 9457), `/v1` and `/v2` with `{"error": "…"}`, as their protocols have
it. Status, problem type and gRPC code are attributes of each class in `service.errors`.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from catalog.responses import InvalidParameter, Problem
from service.core.observation import Observation
from service.core.retry import stopping
from service.errors import (
    CLIENT_GONE,
    InvalidParameterError,
    RequestError,
    UnauthorizedError,
    UnavailableError,
    UnknownModelError,
    forget_frames,
)

PROBLEM_TYPE: Final = "application/problem+json"
KIND_PREFIX: Final = "urn:cifar10-serving:problem:"
PLAIN_PATHS: Final = ("/v1", "/v2")
JSON_HEADER: Final = (b"content-type", b"application/json")
PROBLEM_HEADER: Final = (b"content-type", PROBLEM_TYPE.encode())
CLOSE: Final = (b"connection", b"close")
MAX_SHOWN_CHARACTERS: Final = 100

RawHeader = tuple[bytes, bytes]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; `headers` are all but those that every answer has, and the length of the body."""

    body: bytes
    headers: list[RawHeader] = field(default_factory=lambda: [JSON_HEADER])
    status: int = HTTPStatus.OK


def error_answer(error: BaseException, trace: Observation) -> Answer:
    """Return the answer to a request that failed, and note in its trace why.

    Args:
        error: a `RequestError`; what Starlette and FastAPI raise; a cancellation, which means that a stop has no more
            time; anything else is a fault of ours, and logged.
        trace: of the request.
    """
    if isinstance(error, ClientDisconnect):
        trace.error = CLIENT_GONE
        return Answer(b"", [], HTTPStatus.BAD_REQUEST)  # for the log alone: nobody is there to read it
    if isinstance(error, asyncio.CancelledError):
        error = stopping()
        return _rendered(problem_of(error), trace, [*_headers(error), CLOSE])
    if isinstance(error, RequestValidationError):
        error = InvalidParameterError(
            [invalid_parameter(entry["loc"], entry.get("input"), entry["msg"]) for entry in error.errors()]
        )
    if isinstance(error, RequestError):
        forget_frames(error)
        trace.error = error.kind
        return _rendered(problem_of(error), trace, _headers(error))
    if isinstance(error, HTTPException):
        headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
        return _rendered(_http_problem(error, trace), trace, headers)
    logger.error("%s %s failed", trace.method, trace.path, exc_info=error)
    return _rendered(_internal_problem(error), trace, [])


def is_plain(path: str) -> bool:
    """Tell if errors below this path are `{"error": "…"}`."""
    return path.startswith(PLAIN_PATHS)


def error_body(problem: Problem, *, plain: bool) -> tuple[bytes, RawHeader]:
    """Return a problem in the style of its protocol, and its content type."""
    if not plain:
        return problem.model_dump_json(exclude_none=True).encode(), PROBLEM_HEADER
    parts = [problem.detail]
    if problem.expected is not None:
        parts.append(f"Expected: {problem.expected}")
    if problem.remedy is not None:
        parts.append(f"What to do: {problem.remedy}")
    return orjson.dumps({"error": ". ".join(part.rstrip(".") for part in parts) + "."}), JSON_HEADER


def problem_of(error: RequestError) -> Problem:
    """Return the problem document of an error."""
    return Problem(
        type=KIND_PREFIX + error.kind,
        title=error.title,
        status=error.status,
        detail=error.problem,
        expected=error.expected or None,
        remedy=error.remedy or None,
        available=error.available if isinstance(error, UnknownModelError) else None,
        invalid_parameters=error.invalid if isinstance(error, InvalidParameterError) else None,
    )


def invalid_parameter(location: tuple[int | str, ...], value: object, message: str) -> InvalidParameter:
    """Return a parameter that pydantic rejected, from its error's entry."""
    shown = str(value)[:MAX_SHOWN_CHARACTERS]
    return InvalidParameter(name=str(location[-1]), value=shown, expected=message.removeprefix("Input "))


def _rendered(problem: Problem, trace: Observation, headers: list[RawHeader]) -> Answer:
    body, content_type = error_body(problem, plain=is_plain(trace.path))
    return Answer(body, [content_type, *headers], problem.status)


def _headers(error: RequestError) -> list[RawHeader]:
    headers: list[RawHeader] = []
    if isinstance(error, UnavailableError):
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    if isinstance(error, UnauthorizedError):
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def _http_problem(error: HTTPException, trace: Observation) -> Problem:
    status = HTTPStatus(error.status_code)
    return Problem(
        type=KIND_PREFIX + status.phrase.lower().replace(" ", "-"),
        title=status.phrase,
        status=status,
        detail=f"{trace.method} {trace.path}: {status.description or status.phrase}",
        remedy="/docs lists what there is",
    )


def _internal_problem(error: BaseException) -> Problem:
    return Problem(
        type=KIND_PREFIX + "internal-error",
        title="The service failed",
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
        detail=f"an unexpected {type(error).__name__}; the service's log tells more",
        remedy="please report it with the log",
    )


