"""`/compare` and `/explain`: one image through several versions, and the regions that a class was chosen for."""

import base64
from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from cifar10_serving.artifacts.labels import CLASS_COUNT
from cifar10_serving.artifacts.rollout import LEGAL_VERSION, parse_version
from cifar10_serving.schemas import Comparison, Explanation, InvalidParameter, ModelAnswer, Prediction, Timings
from service.api.predict import DEFAULT_TOP_K, VersionChoice
from service.errors import InvalidParameterError, RequestError
from service.http.answers import Answer, record_answer
from service.http.declarations import HEADERS, IMAGE_BODY, problem_responses
from service.http.errors import problem_of
from service.http.exchange import HttpExchange, read_image
from service.http.hot_routes import respond
from service.images.encoded import encode_png
from service.inference.comparison import Answered, Candidate, agreement, candidates, compare
from service.inference.explanation import SIDE, explain, patch_starts
from service.inference.pipeline import Pipeline
from service.registry.repository import ModelRepository
from service.settings import Settings

COMPARE_PATH: Final = "/compare"


def _candidate(text: str) -> str:
    _, slash, version = text.partition("/")
    if slash:
        try:
            parse_version(version)
        except ValueError:
            raise PydanticCustomError(
                "candidate", "should be NAME or NAME/VERSION; a version is {legal}", {"legal": LEGAL_VERSION}
            ) from None
    return text


class CompareParameters(BaseModel):
    """The query parameters of `POST /compare`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: list[Annotated[str, AfterValidator(_candidate)]] = Field(
        [],
        max_length=64,
        description="NAME or NAME/VERSION; repeat it for several. Default: every ready model",
    )
    top_k: int = Field(DEFAULT_TOP_K, ge=1, le=CLASS_COUNT, description="number of classes in `top`, for each model")


def compare_routes(repository: ModelRepository, pipeline: Pipeline, settings: Settings) -> APIRouter:
    """The route, answering from this repository by this pipeline."""
    routes = APIRouter()

    @routes.post(
        COMPARE_PATH,
        tags=["predict"],
        summary="Classify one image with several models",
        response_model=Comparison,
        responses=problem_responses(400, 404, 408, 413, 415, 422, 503, 504),
        openapi_extra={"requestBody": IMAGE_BODY, "parameters": HEADERS},
    )
    async def compare_models(request: Request, parameters: Annotated[CompareParameters, Query()]) -> Response:
        """Send the image as to `/predict`. It is decoded once; the models compute one after the other."""

        async def answer(exchange: HttpExchange) -> Answer:
            exchange.trace.request_model(", ".join(parameters.model) or None, None)
            with pipeline.admit(exchange) as slot:
                content, deadline = await read_image(exchange, slot)
                versions = candidates(repository, [_parsed(text) for text in parameters.model])
                images = await pipeline.decode(content, exchange.trace, deadline)
                answers = await compare(pipeline, images, versions, top_k=parameters.top_k, deadline=deadline)
                return record_answer(comparison(answers, images[0], exchange.trace.decode_s or 0.0))

        return await respond(request, settings, answer)

    return routes


def comparison(answers: list[Answered], image: NDArray[np.uint8], decode_s: float) -> Comparison:
    """The answer's record.

    Args:
        image: (32, 32, 3) uint8 RGB 0..255.
        decode_s: from the file to it.
    """
    return Comparison(
        answers=[_model_answer(answered, decode_s) for answered in answers],
        agreement=agreement([answered.result for answered in answers if isinstance(answered.result, Prediction)]),
        decode_ms=_ms(decode_s),
        model_input=f"data:image/png;base64,{base64.b64encode(encode_png(image)).decode()}",
    )


def _parsed(text: str) -> Candidate:
    name, slash, version = text.partition("/")
    return name, parse_version(version) if slash else None


def _model_answer(answered: Answered, decode_s: float) -> ModelAnswer:
    computed = answered.computed
    return ModelAnswer(
        model=answered.chosen.name,
        version=answered.chosen.version,
        prediction=None if isinstance(answered.result, RequestError) else answered.result,
        error=problem_of(answered.result) if isinstance(answered.result, RequestError) else None,
        timings=None
        if computed is None
        else Timings(decode_ms=_ms(decode_s), queue_ms=_ms(computed.queue_s), compute_ms=_ms(computed.compute_s)),
    )


def _ms(duration_s: float) -> float:
    return round(duration_s * 1000, 3)


EXPLAIN_PATH: Final = "/explain"


class ExplainParameters(BaseModel):
    """The query parameters of `POST /explain`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        None, description="name of the model; default: the one that /models marks as default", examples=["sequential"]
    )
    version: VersionChoice | None = Field(
        None, description="number or label of the version; default: the serving version"
    )
    patch: int = Field(8, ge=1, le=SIDE, description="side of the square that hides a part of the image, in pixels")
    stride: int = Field(
        4, ge=1, le=SIDE, description="distance between squares, in pixels; at most `patch`. Smaller is finer"
    )
    class_id: int | None = Field(
        None, ge=0, lt=CLASS_COUNT, description="the class to explain; default: the most probable one"
    )


def explain_routes(pipeline: Pipeline, settings: Settings) -> APIRouter:
    """The route, answering by this pipeline."""
    routes = APIRouter()

    @routes.post(
        EXPLAIN_PATH,
        tags=["predict"],
        summary="Explain which parts of an image mattered to a model",
        response_model=Explanation,
        responses=problem_responses(400, 404, 408, 413, 415, 422, 503, 504),
        openapi_extra={"requestBody": IMAGE_BODY, "parameters": HEADERS},
    )
    async def explain_image(request: Request, parameters: Annotated[ExplainParameters, Query()]) -> Response:
        """Occlusion sensitivity: a square of the picture's mean colour hides one part after the other.

        Where the class becomes less probable, what was hidden spoke for it. Each square costs one image.
        """
        check_occlusions(parameters.patch, parameters.stride, most_images=pipeline.max_images_per_request)

        async def answer(exchange: HttpExchange) -> Answer:
            exchange.trace.request_model(parameters.model, parameters.version)
            with pipeline.admit(exchange) as slot:
                content, deadline = await read_image(exchange, slot)
                return record_answer(
                    await explain(
                        pipeline,
                        content,
                        exchange.trace,
                        deadline,
                        model=parameters.model,
                        version=parameters.version,
                        patch=parameters.patch,
                        stride=parameters.stride,
                        class_id=parameters.class_id,
                    )
                )

        return await respond(request, settings, answer)

    return routes


def check_occlusions(patch: int, stride: int, *, most_images: int) -> None:
    """Whether these squares hide every pixel, and are few enough.

    Raises:
        InvalidParameterError: they don't, or are not.
    """
    if stride > patch:
        expected = f"at most patch = {patch}: a larger stride leaves pixels that no square hides"
        raise InvalidParameterError([InvalidParameter(name="stride", value=str(stride), expected=expected)])
    images = 1 + len(patch_starts(patch, stride)) ** 2
    if images > most_images:
        expected = (
            f"a larger stride: with patch = {patch} this one needs {images:,} images, and the limit is {most_images:,}"
        )
        raise InvalidParameterError([InvalidParameter(name="stride", value=str(stride), expected=expected)])
