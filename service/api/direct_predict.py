"""`POST /predict` without a task and without ASGI's messages, for a request that is there as a whole and is small.

Under load that is nearly every one. What is unusual about a request, faults included, is left to
`service.api.predict`, which answers it as if nothing had been tried.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from starlette.responses import Response
from starlette.types import Scope

from service.api.client_watch import CLIENT_GONE
from service.api.inference_request import note_shortage, time_left_s
from service.api.predict import JSON_HEADERS, PATH, read_parameters
from service.api.prediction_json import encode_prediction
from service.api.problems import client_gone_response, internal_error_response, problem_response, unexpected
from service.api.request_body import image_of
from service.core.backlog import Begun
from service.core.batch_queue import Computed
from service.core.direct_inference import DirectInference, DirectRequest
from service.core.model_version import ModelVersion
from service.core.observation import Observation
from service.core.retry import stopping
from service.errors import RequestError, forget_frames
from service.observing import REQUEST_ID, Observer, RequestIds, client_of, tell_ended
from service.security_headers import SECURITY_HEADERS
from service.settings import Settings

MOST_BODY_BYTES: Final = 32 * 2**10
OK: Final = 200

logger = logging.getLogger(__name__)


class WholeRequest(Protocol):
    """A request whose body has been received."""

    @property
    def scope(self) -> Scope:
        """What ASGI says of it."""
        ...

    @property
    def body(self) -> bytes:
        """Its body."""
        ...

    @property
    def begun(self) -> Begun:
        """What the backlog knows of it."""
        ...

    @property
    def is_gone(self) -> bool:
        """Whether its client has gone."""
        ...

    def waits(self, answer: "asyncio.Future[Computed]") -> None:
        """Cancel this when the client goes, or when a stop has no more time."""
        ...

    def reply(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Send the answer; the headers are all but those that every answer has."""
        ...


class DirectPredict:
    """Answers `POST /predict`.

    Args:
        inference: the data plane.
        settings: limits and times.
        observers: told when a request has ended.
    """

    def __init__(self, inference: DirectInference, settings: Settings, observers: Sequence[Observer]) -> None:
        self._inference = inference
        self._settings = settings
        self._observers = observers
        self._ids = RequestIds()

    def begin(self, request: WholeRequest) -> bool:
        """Whether it is answered here; otherwise nothing has happened."""
        scope, body = request.scope, request.body
        if len(body) > MOST_BODY_BYTES:
            return False
        try:
            parameters = read_parameters(scope["query_string"])
            headers = dict(scope["headers"])
            timeout_s = time_left_s(headers, self._settings.request_timeout_s, request.begun)
            content = image_of(headers, body)
            request_id = self._ids.of(scope)
            observation = Observation("POST", PATH, request_id.decode(), is_inference=True)
            observation.client = client_of(scope)
            observation.start_s -= request.begun.waited_s
            answering = _Answering(request, observation, request_id, parameters.top_k, self._observers)
            return self._inference.start(
                content,
                DirectRequest(observation, timeout_s, len(body), answering.ended, request.waits),
                model=parameters.model,
                version=parameters.version,
            )
        except RequestError as error:
            forget_frames(error)
        except Exception:
            logger.exception("a request was not taken directly")
        return False


class _Answering:
    """One request that was taken."""

    __slots__ = ("_observation", "_observers", "_request", "_request_id", "_top_k")

    def __init__(
        self,
        request: WholeRequest,
        observation: Observation,
        request_id: bytes,
        top_k: int,
        observers: Sequence[Observer],
    ) -> None:
        self._request = request
        self._observation = observation
        self._request_id = request_id
        self._top_k = top_k
        self._observers = observers

    def ended(self, chosen: ModelVersion, outcome: Computed | BaseException) -> None:
        """Answer."""
        observation = self._observation
        if isinstance(outcome, Computed):
            body = encode_prediction(chosen.name, chosen.version, outcome.probabilities[0], self._top_k)
            observation.status, headers = OK, [*JSON_HEADERS, (b"content-length", b"%d" % len(body))]
        else:
            response = self._failure(outcome)
            observation.status, headers, body = response.status_code, response.raw_headers, bytes(response.body)
        headers += (*SECURITY_HEADERS, (REQUEST_ID, self._request_id))
        self._request.reply(observation.status, headers, body)
        tell_ended(observation, self._observers)

    def _failure(self, error: BaseException) -> Response:
        observation = self._observation
        if isinstance(error, asyncio.CancelledError):
            if self._request.is_gone:
                observation.error = CLIENT_GONE
                return client_gone_response()
            error = stopping()
        if not isinstance(error, RequestError):
            logger.error("a request failed", exc_info=error)
            observation.detail = unexpected(error)
            return internal_error_response(error)
        forget_frames(error)
        observation.fail(error.kind, error.problem)
        note_shortage(error, self._request.begun, observation)
        return problem_response(error)
