"""`POST /predict/batch`: several files in one request, each with its own answer or its own error."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from catalog.responses import BatchPrediction, BatchResult
from service.api.content_type import check_type
from service.api.declarations import FILES_BODY, HEADERS, problem_responses
from service.api.json_response import record_answer, respond
from service.api.multipart_form import FormField
from service.api.predict import PredictParameters
from service.core.pipeline import Pipeline
from service.core.prediction import name_classes
from service.errors import InvalidRequestError, RequestError
from service.http.body import files_in, form_type
from service.http.errors import Answer, problem_of
from service.http.exchange import HttpExchange
from service.settings import Settings

BATCH_PATH: Final = "/predict/batch"


def batch_routes(pipeline: Pipeline, settings: Settings) -> APIRouter:
    """Return the route, answering by this pipeline."""
    routes = APIRouter()

    @routes.post(
        BATCH_PATH,
        tags=["predict"],
        summary="Classify several images",
        response_model=BatchPrediction,
        responses=problem_responses(400, 404, 408, 413, 415, 422, 503, 504),
        openapi_extra={"requestBody": FILES_BODY, "parameters": HEADERS},
    )
    async def predict_batch(request: Request, parameters: Annotated[PredictParameters, Query()]) -> Response:
        """Send each image as a multipart field `files`. An image that can't be read spoils only its own entry."""

        async def answer(exchange: HttpExchange) -> Answer:
            exchange.trace.request_model(parameters.model, parameters.version)
            with pipeline.admit(exchange) as slot:
                kind = form_type(exchange.headers)
                body, deadline = await exchange.read(slot)
                files = files_in(body, kind, max_files=settings.max_request_rows)
                del body
                rejected = [_rejection(file) for file in files]
                inferred = await pipeline.infer(
                    [file.content for file, error in zip(files, rejected, strict=True) if error is None],
                    exchange.trace,
                    deadline,
                    model=parameters.model,
                    version=parameters.version,
                )
                model, version, computed = inferred.version.name, inferred.version.version, inferred.results()
                results = []
                for file, error in zip(files, rejected, strict=True):
                    result = next(computed) if error is None else error
                    results.append(
                        BatchResult(name=file.filename, error=problem_of(result))
                        if isinstance(result, RequestError)
                        else BatchResult(
                            name=file.filename, prediction=name_classes(model, version, result, parameters.top_k)
                        )
                    )
                return record_answer(BatchPrediction(model=model, version=version, results=results))

        return await respond(request, settings, answer)

    return routes


def _rejection(file: FormField) -> RequestError | None:
    """Return why a file is not even decoded; None where it is."""
    if not file.content:
        return InvalidRequestError("the file has 0 bytes", expected="an image")
    try:
        check_type(file.content_type)
    except RequestError as error:
        return error
    return None
