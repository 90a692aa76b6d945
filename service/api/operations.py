"""Routes for operators: liveness and readiness, metrics, statistics, and reload with the admin token."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import SecretStr

from cifar10_serving.schemas import Liveness, Readiness, ReloadReport, ServiceStatistics
from service.errors import UnauthorizedError
from service.http.declarations import problem_responses
from service.images.decode_threads import DecodeThreads
from service.registry.repository import ModelRepository
from service.registry.watcher import Watcher
from service.settings import variable
from service.telemetry.telemetry import Telemetry


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


def metrics_routes(telemetry: Telemetry) -> APIRouter:
    """The route, answering from this telemetry."""
    routes = APIRouter(tags=["health"])

    @routes.get(
        "/metrics",
        summary="Metrics in Prometheus' text format",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def show_metrics() -> Response:
        return Response(telemetry.prometheus(), media_type=CONTENT_TYPE_LATEST)

    return routes


STATISTICS_PATH: Final = "/stats"


def statistics_routes(telemetry: Telemetry) -> APIRouter:
    """The route, answering from this telemetry."""
    routes = APIRouter()

    @routes.get(STATISTICS_PATH, tags=["health"], summary="Requests/s, queue length and latency")
    async def show_statistics(response: Response) -> ServiceStatistics:
        """Since the start, of all processes that serve; `/metrics` has the rest."""
        response.headers["Cache-Control"] = "no-store"
        return telemetry.service_statistics()

    return routes


BEARER = HTTPBearer(auto_error=False, description=f"the value of the setting `{variable('admin_token')}`")


def authorization(token: SecretStr) -> Callable[..., Awaitable[None]]:
    """A dependency of routes that are open to who sends the token as `Authorization: Bearer TOKEN`."""

    async def authorize(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> None:
        # ASGI decodes headers as Latin-1, whatever the bytes were.
        check_token(credentials.credentials.encode("latin-1") if credentials is not None else None, token)

    return authorize


def check_token(given: bytes | None, token: SecretStr) -> None:
    """Whether this is the token.

    Raises:
        UnauthorizedError: it is not, or there is none.
    """
    if not secrets.compare_digest(given or b"", token.get_secret_value().encode()):
        raise UnauthorizedError(
            "the token is missing" if given is None else "the token is wrong",
            expected="the header 'Authorization: Bearer TOKEN'",
            remedy=f"send the value of {variable('admin_token')}, with which the service was started",
        )


def admin_routes(watcher: Watcher, token: SecretStr, *, broadcast: Callable[[], None]) -> APIRouter:
    """The routes.

    Args:
        broadcast: has other processes that serve look for new versions, too; returns at once.
    """
    routes = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(authorization(token))])

    @routes.post("/reload", summary="Check for new and withdrawn versions now", responses=problem_responses(401, 503))
    async def reload() -> ReloadReport:
        """Answers once all that is new is loaded and all that is gone unloaded; versions that failed are tried again.

        Requests are answered all the while, by what was loaded before. With several workers the answer tells of one;
        the others look at the same time.
        """
        broadcast()
        return await asyncio.wrap_future(watcher.scan_now())

    return routes
