"""`/models`: models, versions, metadata and plots."""

import logging
from typing import Annotated, Final

from fastapi import APIRouter, Path
from fastapi.responses import Response

from cifar10_serving.artifacts.layout import read_plot
from cifar10_serving.artifacts.metadata import ModelMetadata
from cifar10_serving.errors import ArtifactError
from cifar10_serving.schemas import ModelList, ModelStatus, VersionState
from service.api.predict import ModelChoice
from service.errors import UnavailableError, UnknownModelError
from service.http.openapi import problem_responses
from service.registry.repository import RETRY_AFTER_FAILURE_S, RETRY_WHILE_LOADING_S, ModelRepository, ModelVersion

SVG_TYPE: Final = "image/svg+xml"
PLOT_HEADERS: Final = {
    # A plot is untrusted: in the sandbox its scripts don't run, and it has an opaque origin.
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "Cache-Control": "public, max-age=86400, immutable",
}

logger = logging.getLogger(__name__)

ModelPath = Annotated[ModelChoice, Path(description="the model's name", examples=["sequential"])]
VersionPath = Annotated[int, Path(ge=1, description="the version's number", examples=[1])]


def model_routes(repository: ModelRepository) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/models", tags=["models"], summary="List the models, their versions and stored accuracy")
    async def list_models() -> ModelList:
        return repository.status()

    @routes.get("/models/{name}", tags=["models"], summary="Show one model", responses=problem_responses(404))
    async def show_model(name: ModelPath) -> ModelStatus:
        return repository.model_status(name)

    @routes.get(
        "/models/{name}/versions/{version}",
        tags=["models"],
        summary="Show a version's metadata and stored evaluations",
        responses=problem_responses(404, 422, 503),
    )
    async def show_version(name: ModelPath, version: VersionPath) -> ModelMetadata:
        return metadata_of(repository.get(name, version))

    @routes.get(
        "/models/{name}/versions/{version}/plots/{plot}",
        tags=["models"],
        summary="Get a plot of a version as SVG",
        response_class=Response,
        responses={200: {"content": {SVG_TYPE: {}}}, **problem_responses(404, 422, 503)},
    )
    def show_plot(
        name: ModelPath,
        version: VersionPath,
        plot: Annotated[str, Path(description="one of the metadata's `plots`", examples=["learning_curves"])],
    ) -> Response:
        entry = repository.get(name, version)
        metadata = metadata_of(entry)
        if entry.state is VersionState.FAILED:
            raise UnavailableError(
                f"{name} version {version} failed, so its plots are not served: {entry.reason}",
                retry_after_s=RETRY_AFTER_FAILURE_S,
                remedy="publish the version again, or request another one",
            )
        try:
            content = read_plot(entry.folder, metadata, plot.removesuffix(".svg"))
        except ArtifactError as error:
            logger.warning("%s: %s", entry, error)
            content = None
        if content is None:
            problem = f"{name} version {version} has no plot '{plot[:100]}'"
            raise UnknownModelError(problem, available=list(metadata.plots), asked=plot.removesuffix(".svg"))
        return Response(content, media_type=SVG_TYPE, headers=PLOT_HEADERS)

    return routes


def metadata_of(entry: ModelVersion) -> ModelMetadata:
    """Return a version's metadata.

    Raises:
        UnavailableError: they could not be read, or not yet.
    """
    if entry.metadata is None:
        raise UnavailableError(
            f"{entry.name} version {entry.version} has no metadata: {entry.reason or 'it is being loaded'}",
            retry_after_s=RETRY_WHILE_LOADING_S if entry.reason is None else RETRY_AFTER_FAILURE_S,
            remedy="" if entry.reason is None else "publish the version again, or request another one",
        )
    return entry.metadata
