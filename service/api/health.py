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
        readiness = repository.readiness()
        if not readiness.ready:
            response.status_code = 503
            response.headers["Retry-After"] = str(repository.retry_after_s)
        return readiness

    return routes
