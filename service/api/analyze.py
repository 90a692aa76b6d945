"""`/compare` and `/explain`: one image through several versions, and the regions that support a class."""

import base64
from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from cifar10_serving.artifacts.metadata import MAX_CLASSES, MAX_SIDE, InputShape
from cifar10_serving.artifacts.rollout import LEGAL_VERSION, parse_version
from cifar10_serving.schemas import Comparison, Explanation, InvalidParameter, ModelAnswer, Timings, VersionReference
from service.api.predict import DEFAULT_TOP_K, ModelChoice, TopK, VersionChoice, above, check_top_k
from service.errors import InvalidParameterError, RequestError
from service.http.errors import problem_of
from service.http.exchange import Answer, HttpExchange, read_image, record_answer
from service.http.middleware import respond
from service.http.openapi import HEADERS, IMAGE_BODY, problem_responses
from service.images.encoded import encode_png
from service.inference.analysis import (
    Answered,
    Candidate,
    agreement,
    candidates,
    comparable,
    compare,
    decode_for,
    explain,
    patch_starts,
)
from service.inference.pipeline import Pipeline
from service.registry.repository import ModelRepository
from service.settings import Settings

COMPARE_PATH: Final = "/compare"
EXPLAIN_PATH: Final = "/explain"
DEFAULT_PATCHES: Final = 4
DEFAULT_STRIDES: Final = 8
"""So many make the smaller side of the picture."""


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
    top_k: TopK = Field(
        DEFAULT_TOP_K, description="number of classes in `top`, for each model; at most as many as the models have"
    )


def compare_routes(repository: ModelRepository, pipeline: Pipeline, settings: Settings) -> APIRouter:
    """Return the route."""
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
        """Send the image as to `/predict`. It is decoded once; the models compute one after another.

        The agreement compares the texts of the labels. Models that share no label with the others are not counted;
        `not_comparable` lists them.
        """

        async def answer(exchange: HttpExchange) -> Answer:
            exchange.trace.request_model(", ".join(parameters.model) or None, None)
            with pipeline.admit(exchange) as slot:
                content, deadline = await read_image(exchange, slot)
                versions = candidates(repository, [_parsed(text) for text in parameters.model])
                check_top_k(parameters.top_k, max(len(version.labels) for version in versions))
                pixels = await decode_for(pipeline, content, versions, exchange.trace, deadline)
                answers = await compare(pipeline, pixels, versions, top_k=parameters.top_k, deadline=deadline)
                seen = pixels[versions[0].input_shape][0]
                return record_answer(comparison(answers, seen, exchange.trace.decode_s or 0.0))

        return await respond(request, settings, answer)

    return routes


def comparison(answers: list[Answered], image: NDArray[np.uint8], decode_s: float) -> Comparison:
    """Return the answer as a record.

    Args:
        image: (height, width, 3) uint8 RGB 0..255.
        decode_s: time to decode it.
    """
    compared, others = comparable(answers)
    return Comparison(
        answers=[_model_answer(answered, decode_s) for answered in answers],
        agreement=agreement(compared),
        not_comparable=[VersionReference(model=version.name, version=version.version) for version in others],
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


class ExplainParameters(BaseModel):
    """The query parameters of `POST /explain`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ModelChoice | None = Field(
        None, description="name of the model; default: the one that /models marks as default", examples=["sequential"]
    )
    version: VersionChoice | None = Field(
        None, description="number or label of the version; default: the serving version"
    )
    patch: int | None = Field(
        None,
        ge=1,
        le=MAX_SIDE,
        description="side of the square that hides a part of the image, in pixels of the model's input; default: a "
        "quarter of the smaller side, 8 of 32",
    )
    stride: int | None = Field(
        None,
        ge=1,
        le=MAX_SIDE,
        description="distance between squares, in pixels; at most `patch`. Smaller is finer; default: an eighth of the "
        "smaller side, 4 of 32",
    )
    class_id: int | None = Field(
        None, ge=0, lt=MAX_CLASSES, description="the class to explain; default: the most probable one"
    )

    def occlusions_of(self, shape: InputShape, *, max_images: int) -> tuple[int, int]:
        """Return `patch` and `stride` for images of this height and width.

        Raises:
            InvalidParameterError: these squares leave pixels that none hides, or are too many.
        """
        side = min(shape[:2])
        patch, stride = self.patch or side // DEFAULT_PATCHES, self.stride or side // DEFAULT_STRIDES
        for name, pixels in (("patch", patch), ("stride", stride)):
            if pixels > side:
                raise above(name, pixels, side)
        check_occlusions(shape, patch, stride, max_images=max_images)
        return patch, stride


def explain_routes(pipeline: Pipeline, settings: Settings) -> APIRouter:
    """Return the route."""
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
        """Occlusion sensitivity: a square in the image's mean colour moves over the image.

        Where the probability of the class falls, the hidden part supports it. Each position of the square costs one
        image.
        """

        async def answer(exchange: HttpExchange) -> Answer:
            exchange.trace.request_model(parameters.model, parameters.version)
            with pipeline.admit(exchange) as slot:
                content, deadline = await read_image(exchange, slot)
                with pipeline.lease(exchange.trace, model=parameters.model, version=parameters.version) as version:
                    max_images = pipeline.max_images(version)
                    patch, stride = parameters.occlusions_of(version.input_shape, max_images=max_images)
                    if parameters.class_id is not None and parameters.class_id >= len(version.labels):
                        raise _no_class(parameters.class_id, len(version.labels))
                    return record_answer(
                        await explain(
                            pipeline,
                            version,
                            content,
                            exchange.trace,
                            deadline,
                            patch=patch,
                            stride=stride,
                            class_id=parameters.class_id,
                        )
                    )

        return await respond(request, settings, answer)

    return routes


def _no_class(class_id: int, classes: int) -> InvalidParameterError:
    expected = f"should be less than {classes}"
    return InvalidParameterError([InvalidParameter(name="class_id", value=str(class_id), expected=expected)])


def check_occlusions(shape: InputShape, patch: int, stride: int, *, max_images: int) -> None:
    """Check that the squares hide every pixel of images of this height and width, and that there are not too many.

    Raises:
        InvalidParameterError: they don't, or there are.
    """
    if stride > patch:
        expected = f"at most patch = {patch}: a larger stride leaves pixels that no square hides"
        raise InvalidParameterError([InvalidParameter(name="stride", value=str(stride), expected=expected)])
    height, width, _ = shape
    images = 1 + len(patch_starts(height, patch, stride)) * len(patch_starts(width, patch, stride))
    if images > max_images:
        expected = (
            f"a larger stride: with patch = {patch} this one needs {images:,} images, and the limit is {max_images:,}"
        )
        raise InvalidParameterError([InvalidParameter(name="stride", value=str(stride), expected=expected)])
