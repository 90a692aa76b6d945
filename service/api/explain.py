"""`POST /explain`: one image, and what in it mattered to a model."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from catalog.labels import CLASS_COUNT
from catalog.responses import Explanation, InvalidParameter
from service.api.declarations import HEADERS, IMAGE_BODY, problem_responses
from service.api.json_response import record_answer, respond
from service.api.parameters import VersionChoice
from service.core.explanation import SIDE, explain, patch_starts
from service.core.pipeline import Pipeline
from service.errors import InvalidParameterError
from service.http.errors import Answer
from service.http.exchange import HttpExchange, read_image
from service.settings import Settings

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
        check_occlusions(parameters.patch, parameters.stride, most_images=pipeline.max_request_rows)

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
