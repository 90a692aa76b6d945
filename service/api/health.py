"""Liveness and readiness, for orchestrators: never behind a key, never queued."""

from fastapi import APIRouter, Response

from catalog.responses import Liveness, Readiness
from service.core.repository import ModelRepository


def health_routes(repository: ModelRepository) -> APIRouter:
    """`/livez` answers as long as the process does; `/readyz` is 200 only while requests are answered."""
    routes = APIRouter(tags=["health"])

    @routes.get("/livez", summary="Does the process answer?")
    async def livez() -> Liveness:
        return Liveness()

    @routes.get(
        "/readyz",
        summary="Are requests answered?",
        responses={503: {"model": Readiness, "description": "Loading, or no model is ready"}},
    )
    async def readyz(response: Response) -> Readiness:
        reason = repository.not_ready_reason
        if reason is not None:
            response.status_code = 503
            response.headers["Retry-After"] = str(repository.retry_after_s)
        models = {model.name: model.state for model in repository.status().models}
        return Readiness(ready=reason is None, reason=reason, models=models)

    return routes
