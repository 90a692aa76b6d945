"""Puts the service together: settings, runtime, repository, data plane, and the table of routes."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline

from catalog import PROJECT_VERSION
from runtime.selection import open_runtime
from service.api.admin import admin_routes
from service.api.health import health_routes
from service.api.native import native_routes
from service.api.openapi import add_openapi
from service.api.problems import add_problem_handlers
from service.core.admission import Admission
from service.core.inference import Inference
from service.core.repository import ModelRepository
from service.core.watcher import Watcher
from service.hangup import reload_on_hangup
from service.memory import give_large_blocks_back
from service.middleware import HeadMiddleware, LingerMiddleware, StoppingMiddleware
from service.settings import Settings, read_settings

DESCRIPTION = """Send an image, get its CIFAR-10 class.

Models are switched with the query parameter `model`; every answer says which model and version gave it.
Errors are [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem documents."""

logger = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The ASGI application; its models are loaded after start-up, while /livez already answers.

    Raises:
        SettingsError: the models folder can't be read, or (without `settings`) a variable is not legal.
        RuntimeUnavailableError: the runtime, device or precision asked for is not here.
    """
    give_large_blocks_back()
    settings = settings or read_settings()
    runtime = open_runtime(settings.runtime, settings.device, settings.precision)
    repository = ModelRepository(
        settings.models,
        runtime,
        settings.default_model,
        version_policy=settings.version_policy,
        drain_limit_s=settings.shutdown_grace_s,
    )
    watcher = Watcher(repository, settings.poll_interval_s)
    inference = Inference(
        repository,
        Admission(settings.max_pending_requests),
        request_timeout_s=settings.request_timeout_s,
        max_image_pixels=settings.max_image_pixels,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        logger.info("%s %s on %s, %s", runtime.name, runtime.version, runtime.device, runtime.precision)
        reload_on_hangup(watcher)
        loading = asyncio.create_task(_load(repository, watcher))
        yield
        repository.stop_loading()
        await loading
        await asyncio.to_thread(watcher.stop)
        inference.close()

    app = FastAPIOffline(
        title="cifar10-serving", version=PROJECT_VERSION, description=DESCRIPTION, lifespan=lifespan, redoc_url=None
    )
    add_problem_handlers(app)
    app.include_router(native_routes(repository, inference, settings))
    app.include_router(health_routes(repository))
    if settings.admin_token is not None:
        app.include_router(admin_routes(watcher, settings.admin_token))
    app.add_api_route("/", _to_docs, include_in_schema=False)
    add_openapi(app, repository, settings)
    for middleware in (HeadMiddleware, LingerMiddleware, StoppingMiddleware):
        app.add_middleware(middleware)
    return app


async def _load(repository: ModelRepository, watcher: Watcher) -> None:
    await asyncio.to_thread(repository.load_all)
    reason = repository.not_ready_reason
    if reason is None:
        logger.info("ready; %s answers where no model is asked for", repository.default_name())
    else:
        logger.error("not ready: %s", reason)
    watcher.start()


async def _to_docs() -> RedirectResponse:
    return RedirectResponse("/docs")
