"""`GET /metrics`, for Prometheus."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.metrics import Metrics


def metrics_routes(metrics: Metrics) -> APIRouter:
    """The route, answering from these metrics."""
    routes = APIRouter(tags=["health"])

    @routes.get(
        "/metrics",
        summary="What the service has done, in Prometheus' text format",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def show_metrics() -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return routes
