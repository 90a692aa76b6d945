"""The gRPC server next to the HTTP server, on the same event loop: port, health, reflection, start and shutdown."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from service.api.kserve.grpc_service import SERVICE, InferenceService
from service.api.large_requests import RequestReader
from service.inference.pipeline import Pipeline
from service.process.lifecycle import Stop
from service.registry.repository import ModelRepository
from service.settings import Settings
from service.telemetry.telemetry import Telemetry
from service.telemetry.trace import Observer

LOOK_AT_READINESS_EVERY_S: Final = 0.25
WHOLE_SERVER: Final = ""
KEEPALIVE: Final = (
    # By default, a client that pings more than once in five minutes, or without a call, is disconnected
    # (too_many_pings). Proxies and phones need more to keep a connection open. Java's and Go's clients ping every ten
    # seconds at most.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    # With this the server detects within a minute and a half that a client has disappeared.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)
"""https://github.com/grpc/grpc/blob/master/doc/keepalive.md"""
GRPC_LOGGER: Final = "grpc._cython.cygrpc"
CLIENT_LEFT_ERROR: Final = "ExecuteBatchError"
"""Exception that gRPC raises and logs as an error if the client has left before its answer. It is not exported."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def serving_grpc(
    repository: ModelRepository,
    pipeline: Pipeline,
    reader: RequestReader,
    telemetry: Telemetry,
    *,
    settings: Settings,
    observers: Sequence[Observer],
    stop: Stop,
) -> AsyncIterator[None]:
    """Answer gRPC until the shutdown begins or the block ends; answer accepted calls within the grace period.

    Raises:
        RuntimeError: the port is in use.
    """
    logging.getLogger(GRPC_LOGGER).addFilter(_is_fault)
    server = grpc.aio.server(
        # With so_reuseport another service could silently share the port; only the workers of one service should.
        options=(
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            ("grpc.so_reuseport", int(settings.workers > 1)),
            *KEEPALIVE,
        )
    )
    status = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    service = InferenceService(repository, pipeline, reader, telemetry, settings=settings, observers=observers)
    server.add_generic_rpc_handlers((service.handlers(),))
    enable_server_reflection((SERVICE, HEALTH, REFLECTION), server)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    server.add_insecure_port(f"{host}:{settings.grpc_port}")
    await server.start()
    logger.info("listening for gRPC on %s:%d", host, settings.grpc_port)
    following = asyncio.create_task(_follow_readiness(repository, status))

    async def drain() -> None:
        await stop.wait_until_draining()
        following.cancel()
        await status.enter_graceful_shutdown()
        service.end_streams()
        await server.stop(settings.graceful_shutdown_timeout_s)

    draining = asyncio.create_task(drain())
    try:
        yield
    finally:
        stop.begin()
        if stop.is_forced:
            await server.stop(None)
        await draining


def _is_fault(record: logging.LogRecord) -> bool:
    """Return whether a log record of gRPC is a fault; a client that leaves just before its answer is none."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ != CLIENT_LEFT_ERROR


async def _follow_readiness(repository: ModelRepository, status: health.HealthServicer) -> None:
    """Make the health service follow /readyz."""
    while True:
        is_ready = repository.not_ready_reason is None
        states = health_pb2.HealthCheckResponse
        for name in (WHOLE_SERVER, SERVICE):
            await status.set(name, states.SERVING if is_ready else states.NOT_SERVING)
        await asyncio.sleep(LOOK_AT_READINESS_EVERY_S)
