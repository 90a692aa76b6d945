"""`GET /metrics`, for Prometheus."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.telemetry.telemetry import Telemetry


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
