"""Errors as RFC 9457 problem documents: one shape for every error, whoever raised it."""

from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from catalog.responses import InvalidParameter, Problem
from service.api.client_watch import CLIENT_GONE
from service.errors import (
    InvalidParameterError,
    RequestError,
    UnauthorizedError,
    UnavailableError,
    UnknownModelError,
    forget_frames,
)
from service.observing import observation_of

PROBLEM_TYPE: Final = "application/problem+json"
KIND_PREFIX: Final = "urn:cifar10-serving:problem:"


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
    return ProblemResponse(problem_of(error), headers)


def client_gone_response() -> Response:
    """For the log alone: nobody is there to read it."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


def internal_error_response(error: BaseException) -> ProblemResponse:
    """For what should never happen."""
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


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""

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
    async def invalid_parameters(request: Request, error: RequestValidationError) -> Response:
        invalid = [invalid_parameter(entry["loc"], entry.get("input"), entry["msg"]) for entry in error.errors()]
        problem = InvalidParameterError(invalid)
        observation_of(request.scope).fail(problem.kind, problem.problem)
        return problem_response(problem)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        observation_of(request.scope).detail = status.description or status.phrase
        return ProblemResponse(
            Problem(
                type=KIND_PREFIX + status.phrase.lower().replace(" ", "-"),
                title=status.phrase,
                status=status,
                detail=f"{request.method} {request.url.path}: {status.description or status.phrase}",
                remedy="/docs lists what there is",
            ),
            dict(error.headers or {}),
        )

    @app.exception_handler(Exception)
    async def unexpected_error(request: Request, error: Exception) -> Response:
        observation_of(request.scope).detail = unexpected(error)
        return internal_error_response(error)


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


def invalid_parameter(location: tuple[int | str, ...], value: object, message: str) -> InvalidParameter:
    """A parameter that pydantic refused, from its error's entry."""
    return InvalidParameter(name=str(location[-1]), value=str(value)[:100], expected=message.removeprefix("Input "))
