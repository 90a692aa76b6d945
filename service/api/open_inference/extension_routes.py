"""The routes of Triton's extensions beside the protocol: configuration and statistics, and refusals of the others.

The model repository's are `repository_routes`' part.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter

from service.api.open_inference.configuration import model_configuration
from service.api.open_inference.routes import PREFIX, TAG, Model, Version, error_responses
from service.api.open_inference.statistics import StatisticsReport, statistics_report
from service.api.open_inference.unsupported import UnsupportedExtension, unsupported_extensions
from service.core.repository import ModelRepository
from service.settings import Settings
from service.telemetry.telemetry import Telemetry


def extension_routes(repository: ModelRepository, telemetry: Telemetry, settings: Settings) -> APIRouter:
    """The routes, answering from this repository and these counts; to be included before those of models."""
    routes = APIRouter(prefix=PREFIX, tags=[TAG])

    @routes.get("/models/stats", summary="Statistics of all serving versions", responses=error_responses(501))
    async def all_statistics() -> StatisticsReport:
        """Of this process since it started; for monitoring there is /metrics."""
        return statistics_report(repository, telemetry)

    @routes.get(
        "/models/{model}/stats", summary="Statistics of a model's versions", responses=error_responses(404, 501)
    )
    async def statistics_of_model(model: Model) -> StatisticsReport:
        return statistics_report(repository, telemetry, model)

    @routes.get(
        "/models/{model}/versions/{version}/stats",
        summary="Statistics of a version",
        responses=error_responses(400, 404, 501, 503),
    )
    async def statistics_of_version(model: Model, version: Version) -> StatisticsReport:
        return statistics_report(repository, telemetry, model, version)

    @routes.get(
        "/models/{model}/config",
        summary="A model's configuration in Triton's format",
        responses=error_responses(404, 503),
    )
    async def configuration_of_model(model: Model) -> dict[str, Any]:
        return model_configuration(repository, settings, model, "")

    @routes.get(
        "/models/{model}/versions/{version}/config",
        summary="A version's configuration in Triton's format",
        responses=error_responses(400, 404, 503),
    )
    async def configuration_of_version(model: Model, version: Version) -> dict[str, Any]:
        return model_configuration(repository, settings, model, version)

    for extension in unsupported_extensions(with_repository=settings.admin_token is not None):
        for path in extension.paths:
            routes.add_api_route(path, _refusal(extension), methods=["GET", "POST"], include_in_schema=False)
    return routes


def _refusal(extension: UnsupportedExtension) -> Callable[[], Awaitable[None]]:
    async def refuse() -> None:
        raise extension.error()

    return refuse
