"""Conversion of an HTTP answer to a record or an error; sends nothing."""

import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from cifar10_serving.client._config import DEFAULT_URL
from cifar10_serving.client._errors import (
    KIND_PREFIX,
    AddressError,
    AnswerTimeoutError,
    ClientError,
    ConnectionLostError,
    GatewayError,
    TransportError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnknownModelError,
    Unreachable,
    UnreachableError,
    problem_error,
)
from cifar10_serving.schemas import Problem
from cifar10_serving.text import closest

MAX_ANSWER_BYTES: Final = 64 * 2**20
"""Size limit: the service's answers are far smaller, and another server's endless one must not fill the memory."""
JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"
FROM_GATEWAYS: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
ACCESS_DENIED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
ADDRESS: Final = f"an address such as {DEFAULT_URL}"
WRONG_ADDRESS: Final = f"check the address; the default is {DEFAULT_URL}"
START_IT: Final = "check the address, or start the service"
SHOWN_CHARACTERS: Final = 60

AnyRecord = TypeVar("AnyRecord", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer, with a description of its request."""

    request: str
    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def content_type(self) -> str:
        """The content type without parameters."""
        declared: str = self.headers.get("content-type", "")
        return declared.partition(";")[0].strip().lower()

    @property
    def retry_after_s(self) -> float | None:
        """`Retry-After`, in seconds from now."""
        return _retry_after_s(self.headers.get("retry-after", ""))


def read_answer(
    answer: Answer, record: type[AnyRecord], *, accepted: frozenset[int], names: Sequence[str] = ()
) -> AnyRecord:
    """Return the record in an answer; fields that this version doesn't know are ignored.

    Args:
        accepted: the statuses of answers that contain the record.
        names: names in the request; the error suggests a close one for a misspelt name.

    Raises:
        ProblemError: a problem document from the service; `UnauthorizedError` also if a proxy requires a token.
        GatewayError: an error from a proxy.
        UnexpectedAnswerError: it is not an answer of the service.
    """
    if answer.content_type == PROBLEM_JSON:
        _raise_problem(answer, names)
    if answer.status in accepted and answer.content_type == JSON:
        try:
            return record.model_validate_json(answer.body, extra="ignore")
        except ValidationError as error:
            raise UnexpectedAnswerError(
                f"{answer.request} answered JSON that is not a {record.__name__}: {_first_of(error)}",
                remedy=f"{WRONG_ADDRESS}; or use the same version of client and service",
            ) from error
    if answer.status in ACCESS_DENIED:
        raise _rejected(answer)
    if answer.status in FROM_GATEWAYS:
        raise GatewayError(
            f"{answer.request} was answered by something in front of the service: {_describe(answer)}",
            status=answer.status,
            retry_after_s=answer.retry_after_s,
            remedy="check that the service is running, and the proxy's log",
        )
    raise UnexpectedAnswerError(
        f"{answer.request} was not answered by cifar10-serving: {_describe(answer)}", remedy=WRONG_ADDRESS
    )


@contextmanager
def httpx_errors(request: str) -> Iterator[None]:
    """Turn httpx's exceptions into errors of the client."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict) as error:
        raise error_of_httpx(error, request) from error
    except (UnicodeError, OverflowError) as error:  # for a host or port that Python's sockets don't accept
        raise AddressError(f"{request}: {error}", expected=ADDRESS) from error


def error_of_httpx(error: Exception, request: str) -> ClientError:
    """Return the client's error for one of httpx's."""
    words = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
    if isinstance(error, httpx.TransportError):
        return _transport_error(error, words, request)
    if isinstance(error, httpx.InvalidURL):
        return AddressError(f"{request}: {words}", expected=ADDRESS)
    return UnexpectedAnswerError(f"{request}: {words}", remedy=WRONG_ADDRESS)


def _transport_error(error: httpx.TransportError, words: str, request: str) -> ClientError:
    found: ClientError = TransportError(f"{request}: {words}")
    match error:
        case httpx.UnsupportedProtocol():
            found = AddressError(f"{request}: {words}", expected=ADDRESS)
        case httpx.ConnectTimeout():
            found = UnreachableError(
                f"{request}: no connection within the connect time-out", remedy="check the address and the network"
            )
        case httpx.ConnectError() | httpx.ProxyError():
            found = _unreachable(error, words, request)
        case httpx.TimeoutException():
            found = AnswerTimeoutError(f"{request}: no answer within the read time-out", remedy="increase the time-out")
        case httpx.RemoteProtocolError() if "disconnected" not in words and "closed" not in words:
            found = UnexpectedAnswerError(f"{request} was not answered in HTTP: {words}", remedy=WRONG_ADDRESS)
        case httpx.NetworkError() | httpx.RemoteProtocolError():
            found = ConnectionLostError(f"{request}: the connection broke before the answer arrived: {words}")
    return found


def _unreachable(error: httpx.TransportError, words: str, request: str) -> UnreachableError:
    causes = list(_causes(error))
    remedy, cause = START_IT, Unreachable.NO_WAY
    if any(isinstance(found, ssl.SSLError) for found in causes):
        remedy, cause = "check the certificate, or use http://", Unreachable.PERMANENT
    elif isinstance(error, httpx.ProxyError):
        remedy = "check the proxy, or add the service to NO_PROXY"
        if not words.startswith("5"):  # the proxy's status; a 5xx may be temporary
            cause = Unreachable.PERMANENT
    elif any(isinstance(found, ConnectionError) for found in causes):  # refused, or reset while connecting
        cause = Unreachable.REFUSED
    found = UnreachableError(f"{request}: no connection: {words}", remedy=remedy)
    found.cause = cause
    return found


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all its causes; a host with several addresses raises a group."""
    waiting, seen = [error], set[int]()
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += [cause for cause in (found.__cause__, found.__context__) if cause is not None]
        waiting += found.exceptions if isinstance(found, BaseExceptionGroup) else ()


def check_encoding(headers: httpx.Headers, request: str) -> None:
    """Reject an answer that was compressed more than once, which could exceed the memory when decompressed.

    Raises:
        UnexpectedAnswerError: it was.
    """
    encoding = ", ".join(headers.get_list("content-encoding"))
    if "," in encoding:
        raise UnexpectedAnswerError(f"{request} was answered with the encodings {encoding}", remedy=WRONG_ADDRESS)


def too_long(request: str) -> UnexpectedAnswerError:
    """Return the error for an answer that exceeds the size limit."""
    return UnexpectedAnswerError(
        f"{request} was answered with more than {MAX_ANSWER_BYTES:,} bytes", remedy=WRONG_ADDRESS
    )


def _raise_problem(answer: Answer, names: Sequence[str]) -> None:
    try:
        document = Problem.model_validate_json(answer.body, extra="ignore")
    except ValidationError:
        return
    if document.type.startswith(KIND_PREFIX):
        error = problem_error(
            document, retry_after_s=answer.retry_after_s, request_id=answer.headers.get("x-request-id")
        )
        if isinstance(error, UnknownModelError) and not error.remedy:
            unknown = (closest(name, error.available) for name in names if name not in error.available)
            meant = next(filter(None, unknown), None)
            error.remedy = f"did you mean '{meant}'?" if meant else ""
        raise error


def _rejected(answer: Answer) -> ClientError:
    """Return the error for a proxy that requires a token, the same as if the service required it."""
    return problem_error(
        Problem(
            type=f"{KIND_PREFIX}{UnauthorizedError.kind}",
            title="The token is missing or wrong",
            status=answer.status,
            detail=f"{answer.request} was rejected in front of the service: {_describe(answer)}",
            remedy="check the token and the address",
        )
    )


def _describe(answer: Answer) -> str:
    try:
        phrase = f" {HTTPStatus(answer.status).phrase}"
    except ValueError:
        phrase = ""
    location = answer.headers.get("location")
    if location:
        return f"{answer.status}{phrase}, which points to {location}"
    text = " ".join(answer.body[: 4 * SHOWN_CHARACTERS].decode("utf-8", "replace").split())
    shown = f", '{text[:SHOWN_CHARACTERS]}…'" if text.isprintable() and text else ""
    return f"{answer.status}{phrase} with {answer.content_type or 'no content type'}{shown}"


def _first_of(error: ValidationError) -> str:
    entry = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in entry["loc"])
    return f"{place}: {entry['msg']}" if place else entry["msg"]


def _retry_after_s(text: str) -> float | None:
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
