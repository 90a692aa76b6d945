"""`POST /predict`, the hot path: a plain ASGI endpoint in a lane past routing and validation.

Its parameters and answers are declared by pydantic models, from which the OpenAPI document is made (`native`).
"""

from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import Receive, Scope, Send

from catalog.labels import CLASS_COUNT
from service.api.inference_request import answer_request
from service.api.lane import Answer, answer_in_lane
from service.api.parameters import VersionChoice
from service.api.prediction_json import encode_prediction
from service.api.problems import invalid_parameters
from service.api.request_body import image_reader
from service.core.inference import Inference
from service.core.observation import Observation
from service.errors import InvalidParameterError
from service.observing import observation_of
from service.settings import Settings

PATH: Final = "/predict"
DEFAULT_TOP_K: Final = 3
MAX_KEPT_QUERY_BYTES: Final = 200
JSON_HEADERS: Final = ((b"content-type", b"application/json"),)


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
    """Answers `POST /predict`.

    Args:
        inference: the data plane.
        settings: limits and times.
    """

    def __init__(self, inference: Inference, settings: Settings) -> None:
        self._inference = inference
        self._settings = settings
        self._read_image = image_reader(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await answer_in_lane(scope, receive, send, self._answer)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        parameters = read_parameters(scope["query_string"])
        observation_of(scope).request_model(parameters.model, parameters.version)

        async def predict(content: bytes, observation: Observation, timeout_s: float) -> Answer:
            inferred = await self._inference.predict(
                content, observation, model=parameters.model, version=parameters.version, timeout_s=timeout_s
            )
            chosen, probabilities = inferred.chosen, inferred.probabilities[0]
            body = encode_prediction(chosen.name, chosen.version, probabilities, parameters.top_k)
            return Answer(body, JSON_HEADERS)

        return await answer_request(
            scope, receive, self._inference, self._settings, read=self._read_image, answer=predict
        )


def read_parameters(query: bytes) -> PredictParameters:
    """The parameters in a query string; of one that is given twice the last counts.

    Raises:
        InvalidParameterError: one is unknown or not legal.
    """
    return (_kept_parameters if len(query) <= MAX_KEPT_QUERY_BYTES else _parse_parameters)(query)


def _parse_parameters(query: bytes) -> PredictParameters:
    values = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    try:
        return PredictParameters.model_validate(values)
    except ValidationError as error:
        known = PredictParameters.model_fields
        raise InvalidParameterError(invalid_parameters(map(dict, error.errors()), known)) from None


_kept_parameters = lru_cache(maxsize=256)(_parse_parameters)
