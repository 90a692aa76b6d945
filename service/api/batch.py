"""`POST /predict/batch`: several files in one request, each with its own answer or its own error."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from catalog.responses import BatchPrediction, BatchResult
from service.api.content_type import check_type
from service.api.declarations import FILES_BODY, HEADERS, problem_responses
from service.api.inference_request import answer_request
from service.api.json_response import json_response
from service.api.multipart_form import FormField
from service.api.predict import PredictParameters
from service.api.problems import problem_of
from service.api.request_body import files_reader
from service.core.inference import Inference, name_classes
from service.core.observation import Observation
from service.errors import InvalidRequestError, RequestError
from service.observing import observation_of
from service.settings import Settings

BATCH_PATH: Final = "/predict/batch"


def batch_routes(inference: Inference, settings: Settings) -> APIRouter:
    """The route, answering by this data plane."""
    routes = APIRouter()
    read = files_reader(settings)

    @routes.post(
        BATCH_PATH,
        tags=["predict"],
        summary="The CIFAR-10 classes of several images",
        response_model=BatchPrediction,
        responses=problem_responses(400, 404, 408, 413, 415, 422, 503, 504),
        openapi_extra={"requestBody": FILES_BODY, "parameters": HEADERS},
    )
    async def predict_batch(request: Request, parameters: Annotated[PredictParameters, Query()]) -> Response:
        """Send each image as a multipart field `files`. An image that can't be read spoils only its own entry."""
        observation_of(request.scope).request_model(parameters.model, parameters.version)

        async def answer(files: list[FormField], observation: Observation, timeout_s: float) -> BatchPrediction:
            refused = [_refusal(file) for file in files]
            inferred = await inference.infer_files(
                [file.content for file, error in zip(files, refused, strict=True) if error is None],
                observation,
                model=parameters.model,
                version=parameters.version,
                timeout_s=timeout_s,
            )
            chosen, computed = inferred.chosen, iter(inferred.results)
            results = []
            for file, error in zip(files, refused, strict=True):
                result = next(computed) if error is None else error
                results.append(
                    BatchResult(name=file.filename, error=problem_of(result))
                    if isinstance(result, RequestError)
                    else BatchResult(name=file.filename, prediction=name_classes(chosen, result, parameters.top_k))
                )
            return BatchPrediction(model=chosen.name, version=chosen.version, results=results)

        return json_response(
            await answer_request(request.scope, request.receive, inference, settings, read=read, answer=answer)
        )

    return routes


def _refusal(file: FormField) -> RequestError | None:
    """Why a file is not even decoded; None where it is."""
    if not file.content:
        return InvalidRequestError("the file has 0 bytes", expected="an image")
    try:
        check_type(file.content_type)
    except RequestError as error:
        return error
    return None
