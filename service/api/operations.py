"""Routes for operators: liveness, readiness, metrics, statistics, and reload with the admin token."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import SecretStr

from cifar10_serving.schemas import InstanceStatus, Liveness, Readiness, ReloadReport, ServiceStatistics
from service.errors import UnauthorizedError
from service.http.openapi import problem_responses
from service.images.decoding import DecodeThreads
from service.registry.repository import ModelRepository
from service.registry.watcher import Watcher
from service.settings import variable
from service.telemetry.reports import Telemetry

STATISTICS_PATH: Final = "/stats"
INSTANCE_PATH: Final = "/instance"
BEARER = HTTPBearer(auto_error=False, description=f"the value of the setting `{variable('admin_token')}`")


def health_routes(repository: ModelRepository, decode_threads: DecodeThreads) -> APIRouter:
    """Return `/livez`, which answers while the process runs, and `/readyz`, which is 200 if requests are answered."""
    routes = APIRouter(tags=["health"])

    @routes.get("/livez", summary="Liveness probe")
    async def livez() -> Liveness:
        return Liveness()

    add_readiness_route(routes, "/readyz", repository, decode_threads)
    return routes


def add_readiness_route(
    routes: APIRouter, path: str, repository: ModelRepository, decode_threads: DecodeThreads
) -> None:
    """Let GET on a path answer 200 if requests are answered, otherwise 503 with the reason."""

    @routes.get(
        path,
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


def metrics_routes(telemetry: Telemetry) -> APIRouter:
    """Return the route."""
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


def statistics_routes(telemetry: Telemetry) -> APIRouter:
    """Return the route."""
    routes = APIRouter()

    @routes.get(STATISTICS_PATH, tags=["health"], summary="Requests/s, queue length and latency")
    async def show_statistics(response: Response) -> ServiceStatistics:
        """Statistics since the start, of all worker processes; `/metrics` has more."""
        response.headers["Cache-Control"] = "no-store"
        return telemetry.service_statistics()

    return routes


def instance_routes(repository: ModelRepository, telemetry: Telemetry) -> APIRouter:
    """Return the route."""
    routes = APIRouter()

    @routes.get(INSTANCE_PATH, tags=["health"], summary="Name, versions and rollouts of this instance")
    async def show_instance(response: Response) -> InstanceStatus:
        """Return the versions and rollouts of the instance that answers; `python -m cluster status` compares them."""
        response.headers["Cache-Control"] = "no-store"
        return telemetry.instance_status(
            ready=repository.not_ready_reason is None,
            store=repository.store_status(),
        )

    return routes


def authorization(token: SecretStr) -> Callable[..., Awaitable[None]]:
    """Return a dependency that requires the token, sent as `Authorization: Bearer TOKEN`."""

    async def authorize(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> None:
        # ASGI decodes headers as Latin-1.
        check_token(credentials.credentials.encode("latin-1") if credentials is not None else None, token)

    return authorize


def check_token(given: bytes | None, token: SecretStr) -> None:
    """Check the token.

    Raises:
        UnauthorizedError: it is missing or wrong.
    """
    if not secrets.compare_digest(given or b"", token.get_secret_value().encode()):
        raise UnauthorizedError(
            "the token is missing" if given is None else "the token is wrong",
            expected="the header 'Authorization: Bearer TOKEN'",
            remedy=f"send the value of {variable('admin_token')}, with which the service was started",
        )


def admin_routes(watcher: Watcher, token: SecretStr, *, broadcast: Callable[[], None]) -> APIRouter:
    """Return the routes.

    Args:
        broadcast: makes the other workers check for new versions; returns at once.
    """
    routes = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(authorization(token))])

    @routes.post("/reload", summary="Check for new and withdrawn versions now", responses=problem_responses(401, 503))
    async def reload() -> ReloadReport:
        """Load new versions, retry failed ones and unload withdrawn ones; answer when all of that is finished.

        Meanwhile the loaded versions keep answering. With several workers, the answer describes one of them; the others
        do the same at the same time.
        """
        broadcast()
        return await asyncio.wrap_future(watcher.scan_now())

    return routes
