"""The routes of the model repository extension, for the operator: there are none without the setting `admin_token`.

Their bodies are read here and not by FastAPI, since Triton's clients name no content type, and only once the token
was seen.
"""

import asyncio
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field, SecretStr, ValidationError

from service.api.admin import authorization
from service.api.json_document import parse_json
from service.api.open_inference.repository import IndexEntry, load_model, repository_index, unload_model
from service.api.open_inference.routes import PREFIX, TAG, Model, error_responses
from service.api.tensors import shown
from service.core.pipeline import Pipeline
from service.core.repository import ModelRepository
from service.errors import InvalidRequestError
from service.http.body import content_codings, decompress, raw_headers, read_stream, upload_timeout
from service.settings import Settings

Document = TypeVar("Document", bound=BaseModel)
BODY: Final = "an object, or no body"


class IndexRequest(BaseModel):
    """What the index is asked for."""

    ready: bool | None = Field(None, description="only ready versions")


class ChangeRequest(BaseModel):
    """What comes with loading or unloading; parameters that mean nothing here are passed over."""

    parameters: dict[str, Any] | None = None


def repository_routes(
    repository: ModelRepository, pipeline: Pipeline, settings: Settings, token: SecretStr
) -> APIRouter:
    """The routes, changing this repository."""
    routes = APIRouter(
        prefix=f"{PREFIX}/repository",
        tags=[TAG],
        dependencies=[Depends(authorization(token))],
        responses=error_responses(401, 400, 408, 413, 415, 503),
    )

    async def read(request: Request, kind: type[Document]) -> Document:
        try:
            headers = raw_headers(request.scope)
            codings = content_codings(headers)
            with pipeline.slot() as slot:
                async with asyncio.timeout(settings.upload_timeout_s):
                    body = await read_stream(headers, request.receive, slot, max_body_bytes=settings.max_body_bytes)
                body = await decompress(body, codings, slot, max_body_bytes=settings.max_body_bytes)
            document = parse_json(body or b"{}", expected=BODY)
            if not isinstance(document, dict):
                raise InvalidRequestError(f"the request is {shown(document)}", expected=BODY)
            return kind.model_validate(document)
        except TimeoutError:
            raise upload_timeout(settings.upload_timeout_s) from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the request"
            raise InvalidRequestError(f"{where}: {first['msg']}") from None

    @routes.post(
        "/index",
        summary="List the published versions and their states",
        openapi_extra=_declared(IndexRequest),
    )
    async def index(request: Request) -> list[IndexEntry]:
        asked = await read(request, IndexRequest)
        return repository_index(repository, only_ready=asked.ready is True)

    @routes.post(
        "/models/{model}/load",
        summary="Load a model again, and retry failed versions",
        responses=error_responses(404, 501),
        response_class=Response,
        openapi_extra=_declared(ChangeRequest),
    )
    async def load(request: Request, model: Model) -> Response:
        asked = await read(request, ChangeRequest)
        await load_model(repository, model, asked.parameters or {})
        return Response()

    @routes.post(
        "/models/{model}/unload",
        summary="Unload a model until it is loaded again",
        responses=error_responses(404, 501),
        response_class=Response,
        openapi_extra=_declared(ChangeRequest),
    )
    async def unload(request: Request, model: Model) -> Response:
        await read(request, ChangeRequest)
        await unload_model(repository, model)
        return Response()

    return routes


def _declared(kind: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"schema": kind.model_json_schema()}}}}
