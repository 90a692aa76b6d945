"""`POST /predict`, the hot path: a plain ASGI endpoint that answers before routing, validation and the rest begin.

Its parameters and answers are declared by pydantic models, from which the OpenAPI document is made (`native`).
"""

import asyncio
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from catalog.labels import CLASS_COUNT
from catalog.responses import InvalidParameter, Prediction
from service.api.parameters import VersionChoice
from service.api.problems import client_gone_response, invalid_parameter, problem_response
from service.api.request_body import read_image
from service.core.inference import Inference
from service.core.observation import Observation
from service.errors import InvalidParameterError, RequestError
from service.observing import observation_of
from service.settings import Settings

PATH: Final = "/predict"
TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"
DEFAULT_TOP_K: Final = 3
MAX_TIMEOUT_MS: Final = 3_600_000
MAX_KEPT_QUERY_BYTES: Final = 200
LOOK_FOR_CLIENT_AFTER_S: Final = 0.05
CLIENT_GONE: Final = "client-gone"
JSON_HEADER: Final = (b"content-type", b"application/json")


class PredictParameters(BaseModel):
    """The query parameters of `POST /predict`; an unknown one is an error, since it may be a misspelt one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        None, description="which model; without it the one that /models marks as default", examples=["sequential"]
    )
    version: VersionChoice | None = Field(
        None, description="which version, by number or label; without it the one that /models calls serving"
    )
    top_k: int = Field(DEFAULT_TOP_K, ge=1, le=CLASS_COUNT, description="how many classes to list in `top`")


class PredictEndpoint:
    """Answers `POST /predict` itself and passes everything else on.

    Args:
        app: the rest of the application.
        inference: the data plane.
        settings: limits and times.
    """

    def __init__(self, app: ASGIApp, inference: Inference, settings: Settings) -> None:
        self._app = app
        self._inference = inference
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        watch = _ClientWatch(receive)
        observation = observation_of(scope)
        try:
            prediction = await self._answer(scope, watch, observation)
        except RequestError as error:
            observation.error = error.kind
            await problem_response(error)(scope, receive, send)
            return
        except ClientDisconnect:
            observation.error = CLIENT_GONE
            await client_gone_response()(scope, receive, send)
            return
        finally:
            watch.end()
        body = prediction.model_dump_json().encode()
        headers = [JSON_HEADER, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, watch: "_ClientWatch", observation: Observation) -> Prediction:
        settings = self._settings
        with self._inference.slot() as slot:
            query: bytes = scope["query_string"]
            parameters = (_kept_parameters if len(query) <= MAX_KEPT_QUERY_BYTES else parse_parameters)(query)
            headers = Headers(scope=scope)
            timeout_s = _timeout_s(headers, settings.request_timeout_s)
            content = await read_image(
                headers,
                watch.receive,
                slot,
                max_body_bytes=settings.max_body_bytes,
                upload_timeout_s=settings.upload_timeout_s,
            )
            watch.begin()
            try:
                return await self._inference.predict(
                    content,
                    observation,
                    model=parameters.model,
                    version=parameters.version,
                    top_k=parameters.top_k,
                    timeout_s=timeout_s,
                )
            except asyncio.CancelledError:
                watch.raise_if_gone()
                raise


class _ClientWatch:
    """Notices that a client went away while its answer takes long, and cancels the request, so that it costs no more.

    Most answers are there before it looks for the first time.
    """

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self._gone = False
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Watch from now on; the body was read."""
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("no task: an ASGI server runs each request in one")
        self._timer = asyncio.get_running_loop().call_later(LOOK_FOR_CLIENT_AFTER_S, self._start, task)

    def end(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._look is not None:
            self._look.cancel()

    def raise_if_gone(self) -> None:
        """Turn the cancellation that came from here into what it means.

        Raises:
            ClientDisconnect: the client went away.
        """
        task = asyncio.current_task()
        if self._gone and task is not None:
            task.uncancel()
            raise ClientDisconnect

    def _start(self, task: asyncio.Task[object]) -> None:
        self._look = asyncio.create_task(self._wait(task))

    async def _wait(self, task: asyncio.Task[object]) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        task.cancel()


def parse_parameters(query: bytes) -> PredictParameters:
    """The parameters in a query string; of one that is given twice the last counts.

    Raises:
        InvalidParameterError: one is unknown or not legal.
    """
    values = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    try:
        return PredictParameters.model_validate(values)
    except ValidationError as error:
        raise InvalidParameterError(
            [invalid_parameter(entry["loc"], entry["input"], entry["msg"]) for entry in error.errors()]
        ) from None


_kept_parameters = lru_cache(maxsize=256)(parse_parameters)


def _timeout_s(headers: Headers, longest_s: float) -> float:
    """The request's own deadline, where it names one; never longer than the service's."""
    asked = headers.get(TIMEOUT_HEADER)
    if asked is None:
        return longest_s
    if not (asked.isascii() and asked.isdigit() and 1 <= int(asked[:10]) <= MAX_TIMEOUT_MS):
        expected = f"a whole number of milliseconds, 1 to {MAX_TIMEOUT_MS:,}"
        raise InvalidParameterError([InvalidParameter(name=TIMEOUT_HEADER, value=asked[:100], expected=expected)])
    return min(longest_s, int(asked) / 1000)
