"""`POST /v2/models/{model}[/versions/{version}]/infer`: a plain ASGI endpoint in a lane past routing and validation.

What the OpenAPI document says of it is declared by the routes of `routes`.
"""

import re
import time
from typing import Final

from starlette.types import Receive, Scope, Send

from service.api.inference_request import answer_request
from service.api.inferring import infer_all
from service.api.lane import Answer, answer_in_lane
from service.api.large_requests import RequestReader
from service.api.open_inference.infer_request import json_bytes, parse_infer_request
from service.api.open_inference.infer_response import RAW_HEADER_LENGTH, infer_answer
from service.api.open_inference.metadata import requested_version
from service.api.request_body import body_reader
from service.core.inference import Inference
from service.core.observation import Observation
from service.observing import observation_of
from service.settings import Settings

PATHS: Final = re.compile(r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?/infer")


class InferEndpoint:
    """Answers infer requests; the scope's path parameters are the groups of `PATHS`.

    Args:
        inference: the data plane.
        reader: reads large requests.
        settings: limits and times.
    """

    def __init__(self, inference: Inference, reader: RequestReader, settings: Settings) -> None:
        self._inference = inference
        self._reader = reader
        self._settings = settings
        self._read_body = body_reader(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await answer_in_lane(scope, receive, send, self._answer)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        model, version = scope["path_params"]["model"], scope["path_params"]["version"]
        observation_of(scope).request_model(model, version)
        given = next((value for name, value in scope["headers"] if name == RAW_HEADER_LENGTH), None)
        header_length = None if given is None else given.decode("latin-1")

        async def infer(body: bytes, observation: Observation, timeout_s: float) -> Answer:
            start_s = time.monotonic()
            asked = await self._reader.read(
                json_bytes(body, header_length),
                timeout_s,
                parse_infer_request,
                body,
                header_length,
                max_rows=self._inference.max_request_rows,
            )
            del body
            left_s = timeout_s - (time.monotonic() - start_s)
            inferred = await infer_all(
                self._inference,
                asked.images,
                asked.files,
                observation,
                model=model,
                version=requested_version(version or ""),
                timeout_s=min(left_s, asked.timeout_s or left_s),
            )
            return infer_answer(asked, inferred)

        return await answer_request(scope, receive, self._inference, self._settings, read=self._read_body, answer=infer)
