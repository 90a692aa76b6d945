"""The error renderer: turns any exception into an answer, in the format of the request's protocol.

Native routes answer with problem documents (RFC 9457); `/v1` and `/v2` answer with `{"error": "…"}`, as their
protocols require. Each class in `service.errors` has its status and problem type as attributes.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cifar10_serving.schemas import InvalidParameter, Problem
from cifar10_serving.text import closest, did_you_mean
from service.errors import (
    CLIENT_GONE,
    InvalidParameterError,
    RequestError,
    UnauthorizedError,
    UnavailableError,
    UnknownModelError,
    UnsupportedTypeError,
    clear_traceback,
    out_of_memory,
    stopping,
)
from service.http.exchange import CLOSE, JSON_HEADER, Answer, RawHeader, to_response, trace_of
from service.http.forwarding import route_path
from service.telemetry.trace import Trace

PROBLEM_TYPE: Final = "application/problem+json"
KIND_PREFIX: Final = "urn:cifar10-serving:problem:"
PLAIN_PATHS: Final = ("/v1", "/v2")
"""Path prefixes whose errors have the form `{"error": "…"}`."""
PROBLEM_HEADER: Final = (b"content-type", PROBLEM_TYPE.encode())
MAX_SHOWN: Final = 100
SEE_DOCS: Final = "/docs lists all routes"
UNKNOWN_PARAMETER: Final = "extra_forbidden"
"""Error type that pydantic gives an unknown parameter."""

logger = logging.getLogger(__name__)


def error_answer(error: BaseException, trace: Trace) -> Answer:
    """Return the answer to a failed request, and record the reason in its trace.

    Args:
        error: a `RequestError`, a `ClientDisconnect`, a `MemoryError`, or a cancellation, which means that a shutdown
            has no time left. Anything else is an internal error.
        trace: the request's trace.
    """
    if isinstance(error, ClientDisconnect):
        trace.error = CLIENT_GONE
        return Answer(b"", (), HTTPStatus.BAD_REQUEST)  # only for the log: the client has gone
    if isinstance(error, MemoryError):
        clear_traceback(error)
        error = out_of_memory()
    if isinstance(error, asyncio.CancelledError):
        return problem_answer(problem_of(stopping()), trace.path, [*_headers(stopping()), CLOSE])
    if isinstance(error, RequestError):
        clear_traceback(error)
        trace.fail(error.kind, error.problem)
        return problem_answer(problem_of(error), trace.path, _headers(error))
    trace.detail = unexpected(error)
    return problem_answer(_internal_problem(error), trace.path)


def problem_answer(problem: Problem, path: str, headers: Sequence[RawHeader] = ()) -> Answer:
    """Return a problem in the format of the protocol at a path."""
    if not path.startswith(PLAIN_PATHS):
        body = problem.model_dump_json(exclude_none=True).encode()
        return Answer(body, (PROBLEM_HEADER, *headers), problem.status)
    parts = [problem.detail]
    if problem.expected is not None:
        parts.append(f"Expected: {problem.expected}")
    if problem.remedy is not None:
        parts.append(f"What to do: {problem.remedy}")
    body = orjson.dumps({"error": ". ".join(part.rstrip(".") for part in parts) + "."})
    return Answer(body, (JSON_HEADER, *headers), problem.status)


def add_error_handlers(app: FastAPI, paths: Collection[str] = ()) -> None:
    """Render every error of the application.

    Args:
        paths: the paths to suggest for a mistyped one.
    """

    async def render(request: Request, error: Exception) -> Response:
        return to_response(error_answer(error, trace_of(request.scope)))

    async def render_validation_error(request: Request, error: RequestValidationError) -> Response:
        known = _query_parameters(request.scope.get("route"))
        return await render(request, InvalidParameterError(invalid_parameters(error.errors(), known)))

    async def render_http_error(request: Request, error: HTTPException) -> Response:
        status, path = HTTPStatus(error.status_code), route_path(request.scope)
        words = status.description or status.phrase
        allowed = (error.headers or {}).get("Allow")
        trace_of(request.scope).detail = words
        problem = Problem(
            type=KIND_PREFIX + status.phrase.lower().replace(" ", "-"),
            title=status.phrase,
            status=status,
            detail=f"{request.method} {path[:MAX_SHOWN]}: {words}",
            expected=f"the method {allowed}" if allowed is not None else None,
            remedy=_remedy(path, paths) if status == HTTPStatus.NOT_FOUND else SEE_DOCS,
        )
        headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
        return to_response(problem_answer(problem, path, headers))

    for kind in (RequestError, ClientDisconnect, Exception):
        app.add_exception_handler(kind, render)
    app.add_exception_handler(RequestValidationError, render_validation_error)  # type: ignore[arg-type]  # its own kind
    app.add_exception_handler(HTTPException, render_http_error)  # type: ignore[arg-type]


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


def invalid_parameters(errors: Iterable[Mapping[str, Any]], known: Collection[str]) -> list[InvalidParameter]:
    """Describe the parameters that pydantic rejected.

    Args:
        errors: the entries of pydantic's error.
        known: the names of the valid parameters.
    """
    return [_invalid_parameter(str(entry["loc"][-1]), entry, known) for entry in errors]


def unexpected(error: BaseException) -> str:
    """Return the public description of an internal error; the log has the details."""
    return f"an unexpected {type(error).__name__}"


def _invalid_parameter(name: str, error: Mapping[str, Any], known: Collection[str]) -> InvalidParameter:
    expected = str(error["msg"]).removeprefix("Input ")
    if error["type"] == UNKNOWN_PARAMETER:
        expected = f"there is no such parameter{did_you_mean(name, known)}; valid: {', '.join(known)}"
    return InvalidParameter(name=name[:MAX_SHOWN], value=str(error.get("input"))[:MAX_SHOWN], expected=expected)


def _query_parameters(route: object) -> list[str]:
    """Return the names of the query parameters of a route, which are the fields of one model."""
    if not isinstance(route, APIRoute):
        return []
    models = [field.field_info.annotation for field in route.dependant.query_params]
    return [name for model in models for name in getattr(model, "model_fields", ())]


def _remedy(path: str, paths: Collection[str]) -> str:
    meant = closest(path, paths)
    return f"did you mean {meant}? {SEE_DOCS}" if meant is not None and meant != path else SEE_DOCS


def _headers(error: RequestError) -> list[RawHeader]:
    headers: list[RawHeader] = []
    if isinstance(error, UnavailableError):
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    if isinstance(error, UnauthorizedError):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, UnsupportedTypeError) and error.accept_encoding:
        headers.append((b"accept-encoding", error.accept_encoding.encode()))
    return headers


def _internal_problem(error: BaseException) -> Problem:
    return Problem(
        type=KIND_PREFIX + "internal-error",
        title="The service failed",
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
        detail=f"{unexpected(error)}; see the service's log",
        remedy="please report it with the log",
    )
