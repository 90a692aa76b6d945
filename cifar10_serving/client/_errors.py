"""The client's branch of `cifar10_serving.errors.ProjectError`: everything that a call may raise.

ClientError
├── ImageSourceError          what was given is no image that can be read here; nothing was sent
├── AddressError              the address is none
├── ConfigurationError        a variable of the environment, a proxy or certificates, can't be used for the address
├── TransportError            there is no answer
│   ├── UnreachableError        nobody answers there, or not in the connect time-out; the request was not sent
│   ├── ConnectionLostError     the connection broke before the whole answer was there
│   └── AnswerTimeoutError      the read or the total time-out passed
├── NotReadyError             the service was not ready in the time given to it
├── UnexpectedAnswerError     an answer that is not this service's: a wrong address, or another version
├── GatewayError              429, 502, 503 or 504 from a proxy in the service's place
└── ProblemError              a problem document of the service, also of a kind that is not listed here
    ├── InvalidRequestError     400  no image, or a broken form around it
    ├── UndecodableError        400  the bytes are no image that can be decoded
    ├── UnauthorizedError       401  the secret is missing or wrong; a proxy's 401 and 403, too
    ├── UnknownModelError       404  no such model, version or plot; lists what there is
    ├── UnknownRouteError       404, 405  the service has no such route: a wrong address, or an older service
    ├── UploadTimeoutError      408  the body did not arrive in time
    ├── TooLargeError           413  too many bytes, pixels or images
    ├── TargetTooLongError      414  the target of the request has too many bytes
    ├── UnsupportedTypeError    415  declared as something that is not read
    ├── InvalidParameterError   422  a parameter is not what it must be; says which
    ├── HeadTooLargeError       431  the request's head has too many bytes or headers
    ├── InternalError           500  the service failed
    ├── UnsupportedCallError    501  a call of another server's protocol that the service doesn't have
    ├── UnavailableError        503  overloaded, not ready, stopping; says when to come back
    └── DeadlineError           504  no answer within the service's own deadline

Names and kinds are those of `service.errors`; a test walks that tree and fails where one is missing here.
"""

from enum import Enum
from typing import ClassVar, Final

from cifar10_serving.errors import ProjectError
from cifar10_serving.schemas import InvalidParameter, Problem

__all__ = [
    "AddressError",
    "AnswerTimeoutError",
    "ClientError",
    "ConfigurationError",
    "ConnectionLostError",
    "DeadlineError",
    "GatewayError",
    "HeadTooLargeError",
    "ImageSourceError",
    "InternalError",
    "InvalidParameterError",
    "InvalidRequestError",
    "NotReadyError",
    "ProblemError",
    "TargetTooLongError",
    "TooLargeError",
    "TransportError",
    "UnauthorizedError",
    "UnavailableError",
    "UndecodableError",
    "UnexpectedAnswerError",
    "UnknownModelError",
    "UnknownRouteError",
    "UnreachableError",
    "UnsupportedCallError",
    "UnsupportedTypeError",
    "UploadTimeoutError",
]

KIND_PREFIX: Final = "urn:cifar10-serving:problem:"


class ClientError(ProjectError):
    """A call that gave no result."""


class ImageSourceError(ClientError):
    """What was given is not a supported image here; nothing was sent."""


class AddressError(ClientError):
    """The address can't be one of a service."""


class ConfigurationError(ClientError):
    """The environment names a proxy or certificates for the address that can't be used; nothing was sent."""


class TransportError(ClientError):
    """There is no answer."""


class Unreachable(Enum):
    """Reasons why no connection could be made, as far as they say when to try again."""

    REFUSED = "refused"
    """The machine is there and nobody listens: a service that starts, or restarts."""
    NO_WAY = "no way"
    """No such host, no route, or no answer in the connect time-out."""
    PERMANENT = "permanent"
    """Waiting doesn't help: a certificate that isn't trusted, or a proxy that rejects."""


class UnreachableError(TransportError):
    """No connection could be made; the request was not sent."""

    cause: Unreachable = Unreachable.NO_WAY


class ConnectionLostError(TransportError):
    """The connection broke before the whole answer was there."""


class AnswerTimeoutError(TransportError):
    """The answer was not there within the client's own time-outs."""


class NotReadyError(ClientError):
    """The service was reached, and not ready in the time that was given to it."""


class UnexpectedAnswerError(ClientError):
    """The answer is not one of this service: another server, or another version of the service."""


class GatewayError(ClientError):
    """A proxy or load balancer answered in the service's place.

    Args:
        status: 429, 502, 503 or 504.
        retry_after_s: from `Retry-After`, where it says so.
    """

    def __init__(self, problem: str, *, status: int, retry_after_s: float | None, remedy: str = "") -> None:
        super().__init__(problem, remedy=remedy)
        self.status = status
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_gateway_error, (self.problem, self.status, self.retry_after_s, self.remedy)


class ProblemError(ClientError):
    """The service answered with a problem document.

    Args:
        document: the document.
        retry_after_s: from `Retry-After`, where there is one.
        request_id: by which the service's log names the request.
    """

    kind: ClassVar[str] = ""
    """The last part of the document's `type`; empty for the class that holds every other kind."""

    def __init__(self, document: Problem, *, retry_after_s: float | None = None, request_id: str | None = None) -> None:
        super().__init__(document.detail, expected=document.expected or "", remedy=document.remedy or "")
        self.document = document
        self.status: int = document.status
        self.retry_after_s = retry_after_s
        self.request_id = request_id

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_problem_error, (type(self), self.document, self.retry_after_s, self.request_id)


class InvalidRequestError(ProblemError):
    """The request carries no image, or its form is broken."""

    kind = "invalid-request"


class UndecodableError(ProblemError):
    """The bytes are not an image that can be decoded."""

    kind = "undecodable-image"


class UnauthorizedError(ProblemError):
    """The secret that the service, or what stands in front of it, asks for is missing or wrong."""

    kind = "unauthorized"


class UnknownModelError(ProblemError):
    """There is no such model, version or plot; `available` is what there is."""

    kind = "not-found"

    @property
    def available(self) -> list[str]:
        """What there is instead."""
        return self.document.available or []


class UnknownRouteError(ProblemError):
    """The service has no such route: the address has a path too many, or the service is an older one."""

    kind = "method-not-allowed"


class UploadTimeoutError(ProblemError):
    """The request's body did not arrive in time."""

    kind = "upload-timeout"


class TooLargeError(ProblemError):
    """More bytes, pixels or images than the service takes."""

    kind = "too-large"


class TargetTooLongError(ProblemError):
    """The target of the request has more bytes than the service takes."""

    kind = "target-too-long"


class HeadTooLargeError(ProblemError):
    """The request's head has more bytes, or more headers, than the service takes."""

    kind = "head-too-large"


class UnsupportedTypeError(ProblemError):
    """The content is declared as something that is not read."""

    kind = "unsupported-type"


class InvalidParameterError(ProblemError):
    """Parameters of the call are not what they must be; `invalid` says which."""

    kind = "invalid-parameter"

    @property
    def invalid(self) -> list[InvalidParameter]:
        """Which, and what would be right."""
        return self.document.invalid_parameters or []


class InternalError(ProblemError):
    """The service failed; its log tells more, under `request_id`."""

    kind = "internal-error"


class UnsupportedCallError(ProblemError):
    """The service doesn't have this call of another server's protocol, or not in this form."""

    kind = "unsupported-call"


class UnavailableError(ProblemError):
    """The service can't take the request now; `retry_after_s` says when to come back."""

    kind = "unavailable"


class DeadlineError(ProblemError):
    """The answer was not there within the service's deadline."""

    kind = "deadline-passed"


_CLASSES: Final[dict[str, type[ProblemError]]] = {found.kind: found for found in ProblemError.__subclasses__()}


def problem_error(
    document: Problem, *, retry_after_s: float | None = None, request_id: str | None = None
) -> ProblemError:
    """The error of a problem document; one of an unknown kind is a plain `ProblemError`."""
    kind = document.type.removeprefix(KIND_PREFIX)
    if kind == UnknownModelError.kind and document.available is None:
        kind = UnknownRouteError.kind
    error = _CLASSES.get(kind, ProblemError)
    return error(document, retry_after_s=retry_after_s, request_id=request_id)


def _rebuild_problem_error(
    error: type[ProblemError], document: Problem, retry_after_s: float | None, request_id: str | None
) -> ProblemError:
    return error(document, retry_after_s=retry_after_s, request_id=request_id)


def _rebuild_gateway_error(problem: str, status: int, retry_after_s: float | None, remedy: str) -> GatewayError:
    return GatewayError(problem, status=status, retry_after_s=retry_after_s, remedy=remedy)
