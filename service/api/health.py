"""Liveness and readiness, for orchestrators: never behind a key, never queued."""

from fastapi import APIRouter, Response

from catalog.responses import Liveness, Readiness
from service.core.decode_threads import DecodeThreads
from service.core.repository import ModelRepository


def health_routes(repository: ModelRepository, decode_threads: DecodeThreads) -> APIRouter:
    """`/livez` answers as long as the process does; `/readyz` is 200 only while requests are answered."""
    routes = APIRouter(tags=["health"])

    @routes.get("/livez", summary="Liveness probe")
    async def livez() -> Liveness:
        return Liveness()

    @routes.get(
        "/readyz",
        summary="Readiness probe",
        responses={503: {"model": Readiness, "description": "Loading, no model is ready, or no image can be decoded"}},
    )
    async def readyz(response: Response) -> Readiness:
        readiness = repository.readiness()
        if readiness.ready and decode_threads.overdue:
            reason = f"{decode_threads.overdue} decoder threads are stuck on images that take too long"
            readiness = readiness.model_copy(update={"ready": not decode_threads.is_exhausted, "reason": reason})
        if not readiness.ready:
            response.status_code = 503
            response.headers["Retry-After"] = str(repository.retry_after_s)
        return readiness

    return routes
