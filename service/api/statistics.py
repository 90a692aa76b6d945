"""`GET /stats`: how busy the service is, in one small answer."""

from typing import Final

from fastapi import APIRouter, Response

from catalog.responses import ServiceStatistics
from service.telemetry.telemetry import Telemetry

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
