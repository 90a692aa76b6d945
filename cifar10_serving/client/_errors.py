"""The client's branch of `cifar10_serving.errors.ProjectError`: the errors that calls raise.

ClientError
├── ImageSourceError          the image can't be read; nothing was sent
├── AddressError              the address is not valid
├── ConfigurationError        an environment variable, a proxy or certificates can't be used for the address
├── TransportError            there is no answer
│   ├── UnreachableError        no connection, or not within the connect time-out; the request was not sent
│   ├── ConnectionLostError     the connection broke before the complete answer arrived
│   └── AnswerTimeoutError      the read or the total time-out has passed
├── NotReadyError             the service was not ready in time
├── UnexpectedAnswerError     the answer is not this service's: a wrong address, or another version
├── GatewayError              429, 502, 503 or 504 from a proxy
└── ProblemError              a problem document from the service, including unknown kinds
    ├── InvalidRequestError     400  no image, or a malformed form
    ├── UndecodableError        400  the image can't be decoded
    ├── UnauthorizedError       401  the token is missing or wrong; also for a proxy's 401 and 403
    ├── UnknownModelError       404  no such model, version or plot; lists the available ones
    ├── UnknownRouteError       404, 405  the service has no such route: a wrong address, or an older service
    ├── NotAcceptableError      406  no answer of a type that the request accepts
    ├── UploadTimeoutError      408  the body did not arrive in time
    ├── TooLargeError           413  too many bytes, pixels or images
    ├── TargetTooLongError      414  the target of the request has too many bytes
    ├── UnsupportedTypeError    415  the declared type is not supported
    ├── InvalidParameterError   422  a parameter is not valid; says which
    ├── HeadTooLargeError       431  the request's head has too many bytes or headers
    ├── InternalError           500  the service failed
    ├── UnsupportedCallError    501  a call of another server's protocol that the service doesn't support
    ├── UnavailableError        503  overloaded, not ready or stopping; says when to retry
    └── DeadlineError           504  no answer within the service's own deadline

Names and kinds are those of `service.errors`; a test compares the two trees.
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
    "NotAcceptableError",
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
    """Raised for a call without a result."""


class ImageSourceError(ClientError):
    """Raised for an image that can't be read; nothing was sent."""


class AddressError(ClientError):
    """Raised for an address that is not valid."""


class ConfigurationError(ClientError):
    """Raised if the environment names a proxy or certificates that can't be used; nothing was sent."""


class TransportError(ClientError):
    """Raised if there is no answer."""


class Unreachable(Enum):
    """Reasons why no connection could be made, as far as they matter for retries."""

    REFUSED = "refused"
    """The machine is there, but nothing listens: the service may be starting."""
    NO_WAY = "no way"
    """No such host, no route, or no answer within the connect time-out."""
    PERMANENT = "permanent"
    """Waiting doesn't help: an untrusted certificate, or a proxy that rejects the connection."""


class UnreachableError(TransportError):
    """Raised if no connection could be made; the request was not sent."""

    cause: Unreachable = Unreachable.NO_WAY


class ConnectionLostError(TransportError):
    """Raised if the connection broke before the complete answer arrived."""


class AnswerTimeoutError(TransportError):
    """Raised if there was no answer within the client's own time-outs."""


class NotReadyError(ClientError):
    """Raised if the service was reached, but not ready in time."""


class UnexpectedAnswerError(ClientError):
    """Raised for an answer that is not this service's: another server, or another version of the service."""


class GatewayError(ClientError):
    """Raised if a proxy or load balancer answered instead of the service.

    Args:
        status: 429, 502, 503 or 504.
        retry_after_s: from `Retry-After`, if sent.
    """

    def __init__(self, problem: str, *, status: int, retry_after_s: float | None, remedy: str = "") -> None:
        super().__init__(problem, remedy=remedy)
        self.status = status
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_gateway_error, (self.problem, self.status, self.retry_after_s, self.remedy)


class ProblemError(ClientError):
    """Raised for a problem document from the service.

    Args:
        document: the document.
        retry_after_s: from `Retry-After`, if sent.
        request_id: the request's id in the service's log.
    """

    kind: ClassVar[str] = ""
    """The last part of the document's `type`; empty for the class of all other kinds."""

    def __init__(self, document: Problem, *, retry_after_s: float | None = None, request_id: str | None = None) -> None:
        super().__init__(document.detail, expected=document.expected or "", remedy=document.remedy or "")
        self.document = document
        self.status: int = document.status
        self.retry_after_s = retry_after_s
        self.request_id = request_id

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_problem_error, (type(self), self.document, self.retry_after_s, self.request_id)


class InvalidRequestError(ProblemError):
    """Raised for a request without an image, or with a malformed form."""

    kind = "invalid-request"


class UndecodableError(ProblemError):
    """Raised for bytes that are not an image that can be decoded."""

    kind = "undecodable-image"


class UnauthorizedError(ProblemError):
    """Raised if the token for the service, or for a proxy, is missing or wrong."""

    kind = "unauthorized"


class UnknownModelError(ProblemError):
    """Raised if there is no such model, version or plot; `available` lists the existing ones."""

    kind = "not-found"

    @property
    def available(self) -> list[str]:
        """The names that exist."""
        return self.document.available or []


class UnknownRouteError(ProblemError):
    """Raised if the service has no such route: the address has a superfluous path, or the service is older."""

    kind = "method-not-allowed"


class NotAcceptableError(ProblemError):
    """Raised if the service has no answer of a type that the request accepts."""

    kind = "not-acceptable"


class UploadTimeoutError(ProblemError):
    """Raised if the request's body did not arrive in time."""

    kind = "upload-timeout"


class TooLargeError(ProblemError):
    """Raised for more bytes, pixels or images than the service accepts."""

    kind = "too-large"


class TargetTooLongError(ProblemError):
    """Raised if the target of the request has too many bytes."""

    kind = "target-too-long"


class HeadTooLargeError(ProblemError):
    """Raised if the request's head has too many bytes or headers."""

    kind = "head-too-large"


class UnsupportedTypeError(ProblemError):
    """Raised for content whose declared type is not supported."""

    kind = "unsupported-type"


class InvalidParameterError(ProblemError):
    """Raised for parameters that are not valid; `invalid` lists them."""

    kind = "invalid-parameter"

    @property
    def invalid(self) -> list[InvalidParameter]:
        """The parameters, with their expected values."""
        return self.document.invalid_parameters or []


class InternalError(ProblemError):
    """Raised if the service failed; its log has the details under `request_id`."""

    kind = "internal-error"


class UnsupportedCallError(ProblemError):
    """Raised for a call of another server's protocol that the service doesn't support, or not in this form."""

    kind = "unsupported-call"


class UnavailableError(ProblemError):
    """Raised if the service can't take the request now; `retry_after_s` says when to retry."""

    kind = "unavailable"


class DeadlineError(ProblemError):
    """Raised if there was no answer within the service's deadline."""

    kind = "deadline-passed"


_CLASSES: Final[dict[str, type[ProblemError]]] = {found.kind: found for found in ProblemError.__subclasses__()}


def problem_error(
    document: Problem, *, retry_after_s: float | None = None, request_id: str | None = None
) -> ProblemError:
    """Return the error for a problem document; a plain `ProblemError` for an unknown kind."""
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
