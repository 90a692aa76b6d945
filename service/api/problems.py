"""Errors as RFC 9457 problem documents: one shape for every error, whoever raised it."""

from collections.abc import Collection, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from catalog.close_match import closest, did_you_mean
from catalog.responses import InvalidParameter, Problem
from service.api.client_watch import CLIENT_GONE
from service.errors import (
    InvalidParameterError,
    RequestError,
    UnauthorizedError,
    UnavailableError,
    UnknownModelError,
    UnsupportedTypeError,
    forget_frames,
    out_of_memory,
)
from service.forwarding import route_path
from service.observing import observation_of

PROBLEM_TYPE: Final = "application/problem+json"
KIND_PREFIX: Final = "urn:cifar10-serving:problem:"
UNKNOWN_PARAMETER: Final = "extra_forbidden"
"""Pydantic's name of the kind of error."""
MAX_SHOWN: Final = 100
SEE_DOCS: Final = "/docs lists what there is"


class ProblemResponse(Response):
    """A problem document."""

    media_type = PROBLEM_TYPE

    def __init__(self, problem: Problem, headers: dict[str, str] | None = None) -> None:
        super().__init__(problem.model_dump_json(exclude_none=True), problem.status, headers)


def problem_response(error: RequestError) -> ProblemResponse:
    """The response to an error."""
    headers: dict[str, str] = {}
    if isinstance(error, UnavailableError):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, UnsupportedTypeError) and error.accept_encoding:
        headers["Accept-Encoding"] = error.accept_encoding
    return ProblemResponse(problem_of(error), headers)


def client_gone_response() -> Response:
    """For the log alone: nobody is there to read it."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


def internal_error_response(error: BaseException) -> ProblemResponse:
    """For what should never happen, and for a want of memory."""
    if isinstance(error, MemoryError):
        return problem_response(out_of_memory())
    return ProblemResponse(
        Problem(
            type=KIND_PREFIX + "internal-error",
            title="The service failed",
            status=HTTPStatus.INTERNAL_SERVER_ERROR,
            detail=f"{unexpected(error)}; the service's log tells more",
            remedy="please report it with the log",
        )
    )


def unexpected(error: BaseException) -> str:
    """What there is to say of an error that should never happen; the rest is for the log."""
    return f"an unexpected {type(error).__name__}"


def add_problem_handlers(app: FastAPI, paths: Collection[str] = ()) -> None:
    """Answer every error of the application with a problem document.

    Args:
        paths: what is suggested to those who mistype one.
    """

    @app.exception_handler(RequestError)
    async def request_error(request: Request, error: RequestError) -> Response:
        forget_frames(error)
        observation_of(request.scope).fail(error.kind, error.problem)
        return problem_response(error)

    @app.exception_handler(ClientDisconnect)
    async def client_gone(request: Request, _error: ClientDisconnect) -> Response:
        observation_of(request.scope).error = CLIENT_GONE
        return client_gone_response()

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        problem = InvalidParameterError(
            invalid_parameters(error.errors(), _query_parameters(request.scope.get("route")))
        )
        observation_of(request.scope).fail(problem.kind, problem.problem)
        return problem_response(problem)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        status, path = HTTPStatus(error.status_code), route_path(request.scope)
        observation_of(request.scope).detail = status.description or status.phrase
        return ProblemResponse(
            Problem(
                type=KIND_PREFIX + status.phrase.lower().replace(" ", "-"),
                title=status.phrase,
                status=status,
                detail=f"{request.method} {path[:MAX_SHOWN]}: {status.description or status.phrase}",
                remedy=_remedy(path, paths) if status == HTTPStatus.NOT_FOUND else SEE_DOCS,
            ),
            dict(error.headers or {}),
        )

    @app.exception_handler(Exception)
    async def unexpected_error(request: Request, error: Exception) -> Response:
        observation_of(request.scope).detail = unexpected(error)
        return internal_error_response(error)


def _remedy(path: str, paths: Collection[str]) -> str:
    meant = closest(path, paths)
    return f"did you mean {meant}? {SEE_DOCS}" if meant is not None and meant != path else SEE_DOCS


def problem_of(error: RequestError) -> Problem:
    """The problem document of an error."""
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
        errors: its errors' entries.
        known: the names of the parameters that there are.
    """
    return [_invalid_parameter(str(entry["loc"][-1]), entry, known) for entry in errors]


def _invalid_parameter(name: str, error: Mapping[str, Any], known: Collection[str]) -> InvalidParameter:
    expected = str(error["msg"]).removeprefix("Input ")
    if error["type"] == UNKNOWN_PARAMETER:
        expected = f"there is no such parameter{did_you_mean(name, known)}; there are {', '.join(known)}"
    return InvalidParameter(name=name[:MAX_SHOWN], value=str(error.get("input"))[:MAX_SHOWN], expected=expected)


def _query_parameters(route: object) -> list[str]:
    """The names of the query parameters that a route takes, which are the fields of one model."""
    if not isinstance(route, APIRoute):
        return []
    models = [field.field_info.annotation for field in route.dependant.query_params]
    return [name for model in models for name in getattr(model, "model_fields", ())]
