"""The service's branch of `cifar10_serving.errors.ProjectError`; each class has one HTTP status and one gRPC code.

ServiceError
├── SettingsError             a setting is not valid; the service doesn't start
└── RequestError              a request that isn't answered with a prediction
    ├── InvalidRequestError   400 INVALID_ARGUMENT   no image, or a malformed form
    ├── UndecodableError      400 INVALID_ARGUMENT   the image can't be decoded
    ├── UnauthorizedError     401 UNAUTHENTICATED    the route's token is missing or wrong
    ├── UnknownModelError     404 NOT_FOUND          no such model, version or plot
    ├── NotAcceptableError    406 INVALID_ARGUMENT   no answer in a type that the client accepts
    ├── UploadTimeoutError    408 INVALID_ARGUMENT   the body did not arrive in time
    ├── TooLargeError         413 RESOURCE_EXHAUSTED too many bytes or pixels
    ├── TargetTooLongError    414 INVALID_ARGUMENT   the target of the request has too many bytes
    ├── UnsupportedTypeError  415 INVALID_ARGUMENT   the declared type is not supported
    ├── InvalidParameterError 422 INVALID_ARGUMENT   a query parameter or header is not valid
    ├── HeadTooLargeError     431 INVALID_ARGUMENT   the request's head has too many bytes or headers
    ├── UnsupportedCallError  501 UNIMPLEMENTED      a call that this service doesn't support
    ├── UnavailableError      503 UNAVAILABLE        overloaded, not ready or stopping; says when to retry
    └── DeadlineError         504 DEADLINE_EXCEEDED  no answer in time

Each class has a kind, the machine-readable last part of the problem document's type. `CLIENT_GONE` is the kind of a
request whose client has disconnected.
"""

import math
from http import HTTPStatus
from typing import ClassVar, Final, Protocol

from cifar10_serving.errors import ProjectError
from cifar10_serving.schemas import InvalidParameter
from cifar10_serving.text import closest

CLIENT_GONE: Final = "client-gone"
"""The kind of a request whose client disconnected; there is no answer."""
RETRY_AFTER_OUT_OF_MEMORY_S: Final = 5
LONGEST_RETRY_S: Final = 30
RETRY_AFTER_STOP_S: Final = 5


class ServiceError(ProjectError):
    """Raised when the service can't do what was requested."""


class SettingsError(ServiceError):
    """Raised for a setting that is not valid."""


class RequestError(ServiceError):
    """Raised for a request that isn't answered with a prediction.

    `kind` is the stable last part of the problem document's `type`, `title` is its title, and `grpc_code` is the name
    of a `grpc.StatusCode`.
    """

    status: ClassVar[HTTPStatus]
    grpc_code: ClassVar[str] = "INVALID_ARGUMENT"
    kind: ClassVar[str]
    title: ClassVar[str]


class InvalidRequestError(RequestError):
    """Raised for a request without an image, or with a malformed form."""

    status, kind, title = HTTPStatus.BAD_REQUEST, "invalid-request", "The request can't be read"


class UndecodableError(RequestError):
    """Raised for bytes that are not an image that can be decoded."""

    status, kind, title = HTTPStatus.BAD_REQUEST, "undecodable-image", "The image can't be decoded"


class UnauthorizedError(RequestError):
    """Raised if the token that the route requires is missing or wrong."""

    status, kind, title = HTTPStatus.UNAUTHORIZED, "unauthorized", "The token is missing or wrong"
    grpc_code = "UNAUTHENTICATED"


class UnknownModelError(RequestError):
    """Raised if there is no such model, version or plot.

    Args:
        available: the names that exist.
        asked: the name that was not found; a close one of `available` is suggested.
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


class NotAcceptableError(RequestError):
    """Raised if the client accepts no type in which there are answers."""

    status, kind, title = HTTPStatus.NOT_ACCEPTABLE, "not-acceptable", "There is no answer of an accepted type"


class UploadTimeoutError(RequestError):
    """Raised if the request's body did not arrive in time."""

    status, kind, title = HTTPStatus.REQUEST_TIMEOUT, "upload-timeout", "The request did not arrive in time"


class TooLargeError(RequestError):
    """Raised for a request with too many bytes, or an image with too many pixels."""

    status, kind, title = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", "The request is too large"
    grpc_code = "RESOURCE_EXHAUSTED"


class TargetTooLongError(RequestError):
    """Raised for a request whose target has too many bytes."""

    status, kind, title = HTTPStatus.REQUEST_URI_TOO_LONG, "target-too-long", "The request's target is too long"


class UnsupportedTypeError(RequestError):
    """Raised for content whose declared type is not supported.

    Args:
        accept_encoding: the supported content codings, if the content coding is not supported.
    """

    status, kind, title = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-type", "Not a supported image type"

    def __init__(self, problem: str, *, expected: str = "", remedy: str = "", accept_encoding: str = "") -> None:
        super().__init__(problem, expected=expected, remedy=remedy)
        self.accept_encoding = accept_encoding


class HeadTooLargeError(RequestError):
    """Raised for a request whose head has too many bytes or headers."""

    status, kind, title = (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "head-too-large",
        "The request's head is too large",
    )


class InvalidParameterError(RequestError):
    """Raised for parameters that are not valid.

    Args:
        invalid: the parameters, with their expected values.
    """

    status, kind = HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-parameter"
    title = "A parameter is not valid"

    def __init__(self, invalid: list[InvalidParameter]) -> None:
        super().__init__("; ".join(f"{entry.name} = {entry.value}: {entry.expected}" for entry in invalid))
        self.invalid = invalid


class UnsupportedCallError(RequestError):
    """Raised for a call of the protocol that this service doesn't support, or not in this form."""

    status, kind, title = HTTPStatus.NOT_IMPLEMENTED, "unsupported-call", "The call is not supported"
    grpc_code = "UNIMPLEMENTED"


class CapacityLimit(Protocol):
    """A limited resource, such as the places in a queue."""

    def is_exhausted(self, ahead: int) -> bool:
        """Return whether nothing is left for a request, with this many more ahead of it."""

    def error(self) -> "UnavailableError":
        """Return the error for a request that is rejected because of it."""


class UnavailableError(RequestError):
    """Raised if the service can't take the request now.

    Args:
        retry_after_s: time after which a retry makes sense, at least 1.
        capacity_limit: the exhausted resource, which all similar requests need; None if that is not known.
    """

    status, kind, title = HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "The service can't take the request now"
    grpc_code = "UNAVAILABLE"

    def __init__(
        self, problem: str, *, retry_after_s: int, remedy: str = "", capacity_limit: CapacityLimit | None = None
    ) -> None:
        super().__init__(problem, remedy=remedy or f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s
        self.capacity_limit = capacity_limit


def out_of_memory() -> UnavailableError:
    """Return the error for a request for which there is not enough memory now."""
    return UnavailableError("there is not enough memory for the request", retry_after_s=RETRY_AFTER_OUT_OF_MEMORY_S)


class DeadlineError(RequestError):
    """Raised if there was no answer within the deadline."""

    status, kind, title = HTTPStatus.GATEWAY_TIMEOUT, "deadline-passed", "No answer within the deadline"
    grpc_code = "DEADLINE_EXCEEDED"


def clear_traceback(error: BaseException) -> None:
    """Release the objects that an error's traceback keeps alive, such as a request's body.

    A future or a local variable often holds the error, too: the body of a rejected request would stay in memory until
    the next garbage collection, which is rare (`service.process.lifecycle`).
    """
    error.__traceback__ = None


def retry_after_s(waiting: int, seconds_each: float) -> int:
    """Return the time in whole seconds until this many have left, 1 to 30."""
    return min(LONGEST_RETRY_S, max(1, math.ceil(waiting * seconds_each)))


def stopping() -> UnavailableError:
    """Return the error for requests during a shutdown."""
    return UnavailableError("the service is stopping", retry_after_s=RETRY_AFTER_STOP_S)
