"""The service's branch of `cifar10_serving.errors.ProjectError`; each class has one HTTP status and one gRPC code.

ServiceError
├── SettingsError             a setting is not legal; the process doesn't start
└── RequestError              a request that isn't answered with a prediction
    ├── InvalidRequestError   400 INVALID_ARGUMENT   no image, or a broken form around it
    ├── UndecodableError      400 INVALID_ARGUMENT   the bytes are no image that can be decoded
    ├── UnauthorizedError     401 UNAUTHENTICATED    the route's secret is missing or wrong
    ├── UnknownModelError     404 NOT_FOUND          no such model, version or plot
    ├── UploadTimeoutError    408 INVALID_ARGUMENT   the body did not arrive in time
    ├── TooLargeError         413 RESOURCE_EXHAUSTED too many bytes or pixels
    ├── TargetTooLongError    414 INVALID_ARGUMENT   the target of the request has too many bytes
    ├── UnsupportedTypeError  415 INVALID_ARGUMENT   declared as something that is not read
    ├── InvalidParameterError 422 INVALID_ARGUMENT   a query parameter or header is not what it must be
    ├── HeadTooLargeError     431 INVALID_ARGUMENT   the request's head has too many bytes or headers
    ├── UnsupportedCallError  501 UNIMPLEMENTED      a call that this service doesn't have, or not in this form
    ├── UnavailableError      503 UNAVAILABLE        overloaded, not ready, stopping; says when to come back
    └── DeadlineError         504 DEADLINE_EXCEEDED  no answer in time

The kind of each, a word for programs, is the last part of the problem document's type; `CLIENT_GONE` is that of a
request whose client has left.
"""

import math
from http import HTTPStatus
from typing import ClassVar, Final, Protocol

from cifar10_serving.errors import ProjectError
from cifar10_serving.schemas import InvalidParameter
from cifar10_serving.text import closest

CLIENT_GONE: Final = "client-gone"
"""The kind of a request whose client went away; there is no answer to render."""


class ServiceError(ProjectError):
    """The service could not do what was asked."""


class SettingsError(ServiceError):
    """A setting is not legal."""


class RequestError(ServiceError):
    """A request that isn't answered with a prediction.

    `kind` is the stable last part of the problem document's `type`, `title` its words, and `grpc_code` the name of a
    `grpc.StatusCode`.
    """

    status: ClassVar[HTTPStatus]
    grpc_code: ClassVar[str] = "INVALID_ARGUMENT"
    kind: ClassVar[str]
    title: ClassVar[str]


class InvalidRequestError(RequestError):
    """The request carries no image, or its form is broken."""

    status, kind, title = HTTPStatus.BAD_REQUEST, "invalid-request", "The request can't be read"


class UndecodableError(RequestError):
    """The bytes are not an image that can be decoded."""

    status, kind, title = HTTPStatus.BAD_REQUEST, "undecodable-image", "The image can't be decoded"


class UnauthorizedError(RequestError):
    """The secret that the route asks for is missing or wrong."""

    status, kind, title = HTTPStatus.UNAUTHORIZED, "unauthorized", "The token is missing or wrong"
    grpc_code = "UNAUTHENTICATED"


class UnknownModelError(RequestError):
    """There is no such model, version or plot.

    Args:
        available: what there is instead.
        asked: the name that was not found; close ones of `available` are suggested.
    """

    status, kind, title = HTTPStatus.NOT_FOUND, "not-found", "There is no such model, version or plot"
    grpc_code = "NOT_FOUND"

    def __init__(self, problem: str, *, available: list[str], asked: str = "") -> None:
        meant = closest(asked, available)
        super().__init__(
            problem,
            expected=f"one of {', '.join(available)}" if available else "",
            remedy=f"did you mean '{meant}'?" if meant is not None else "",
        )
        self.available = available


class UploadTimeoutError(RequestError):
    """The request's body did not arrive in time."""

    status, kind, title = HTTPStatus.REQUEST_TIMEOUT, "upload-timeout", "The request did not arrive in time"


class TooLargeError(RequestError):
    """The request has more bytes, or the image more pixels, than the service takes."""

    status, kind, title = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", "The request is too large"
    grpc_code = "RESOURCE_EXHAUSTED"


class TargetTooLongError(RequestError):
    """The target of the request has more bytes than the service takes."""

    status, kind, title = HTTPStatus.REQUEST_URI_TOO_LONG, "target-too-long", "The request's target is too long"


class UnsupportedTypeError(RequestError):
    """The content is declared as something that is not read.

    Args:
        accept_encoding: where it is the content coding that is not read, those that are.
    """

    status, kind, title = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-type", "Not a supported image type"

    def __init__(self, problem: str, *, expected: str = "", remedy: str = "", accept_encoding: str = "") -> None:
        super().__init__(problem, expected=expected, remedy=remedy)
        self.accept_encoding = accept_encoding


class HeadTooLargeError(RequestError):
    """The request's head has more bytes, or more headers, than the service takes."""

    status, kind, title = (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "head-too-large",
        "The request's head is too large",
    )


class InvalidParameterError(RequestError):
    """Parameters of the request are not what they must be.

    Args:
        invalid: which, and what would be right.
    """

    status, kind = HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-parameter"
    title = "A parameter is not valid"

    def __init__(self, invalid: list[InvalidParameter]) -> None:
        super().__init__("; ".join(f"{entry.name} = {entry.value}: {entry.expected}" for entry in invalid))
        self.invalid = invalid


class UnsupportedCallError(RequestError):
    """The protocol knows the call, and this service doesn't have it, or not in this form."""

    status, kind, title = HTTPStatus.NOT_IMPLEMENTED, "unsupported-call", "The call is not supported"
    grpc_code = "UNIMPLEMENTED"


class CapacityLimit(Protocol):
    """Something that there is too little of, such as places in a queue."""

    def is_exhausted(self, ahead: int) -> bool:
        """Whether a request still finds none, with so many more before it on their way there."""

    def error(self) -> "UnavailableError":
        """What it is told then."""


class UnavailableError(RequestError):
    """The service can't take the request now.

    Args:
        retry_after_s: when trying again makes sense, at least 1.
        capacity_limit: what there is too little of for whatever asks for the same; None where that can't be told.
    """

    status, kind, title = HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "The service can't take the request now"
    grpc_code = "UNAVAILABLE"

    def __init__(
        self, problem: str, *, retry_after_s: int, remedy: str = "", capacity_limit: CapacityLimit | None = None
    ) -> None:
        super().__init__(problem, remedy=remedy or f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s
        self.capacity_limit = capacity_limit


RETRY_AFTER_OUT_OF_MEMORY_S: Final = 5


def out_of_memory() -> UnavailableError:
    """Return the error of a request for which there is not enough memory at this moment."""
    return UnavailableError("there is not enough memory for the request", retry_after_s=RETRY_AFTER_OUT_OF_MEMORY_S)


class DeadlineError(RequestError):
    """The answer was not there in time."""

    status, kind, title = HTTPStatus.GATEWAY_TIMEOUT, "deadline-passed", "No answer within the deadline"
    grpc_code = "DEADLINE_EXCEEDED"


def clear_traceback(error: BaseException) -> None:
    """Let go of what the functions hold through which an error came, such as a request's body.

    A future or a variable of one of them often holds the error, too: the body of a refused request would stay until
    garbage is looked for, which is seldom (`service.process.memory`).
    """
    error.__traceback__ = None


LONGEST_RETRY_S: Final = 30
RETRY_AFTER_STOP_S: Final = 5


def retry_after_s(waiting: int, seconds_each: float) -> int:
    """Whole seconds until so many have left, 1 to 30."""
    return min(LONGEST_RETRY_S, max(1, math.ceil(waiting * seconds_each)))


def stopping() -> UnavailableError:
    """The error of what the service no longer does because it is stopping."""
    return UnavailableError("the service is stopping", retry_after_s=RETRY_AFTER_STOP_S)
