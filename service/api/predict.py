"""`POST /predict`, the hot path: its handler goes past FastAPI's routing and validation.

Its parameters and answers are declared by pydantic models, from which the OpenAPI document is made (`native`).
"""

from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catalog.labels import CLASS_COUNT
from service.api.parameters import VersionChoice
from service.core.pipeline import Pipeline
from service.core.prediction import encode_prediction
from service.errors import InvalidParameterError
from service.http.errors import Answer, invalid_parameters
from service.http.exchange import Handler, HttpExchange, read_image

PATH: Final = "/predict"
DEFAULT_TOP_K: Final = 3
MAX_KEPT_QUERY_BYTES: Final = 200


class PredictParameters(BaseModel):
    """The query parameters of `POST /predict`; an unknown one is an error, since it may be a misspelt one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        None, description="name of the model; default: the one that /models marks as default", examples=["sequential"]
    )
    version: VersionChoice | None = Field(
        None, description="number or label of the version; default: the serving version"
    )
    top_k: int = Field(DEFAULT_TOP_K, ge=1, le=CLASS_COUNT, description="number of classes in `top`")


def predict_handler(pipeline: Pipeline) -> Handler:
    """Return what answers `POST /predict`."""

    async def predict(exchange: HttpExchange) -> Answer:
        asked = read_parameters(exchange.query)
        exchange.trace.request_model(asked.model, asked.version)
        with pipeline.admit(exchange) as slot:
            image, deadline = await read_image(exchange, slot)
            inferred = await pipeline.infer([image], exchange.trace, deadline, model=asked.model, version=asked.version)
            probabilities = inferred.require_all(name_index=False).probabilities[0]
            return Answer(
                encode_prediction(inferred.version.name, inferred.version.version, probabilities, asked.top_k)
            )

    return predict


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
