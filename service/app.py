"""Assembles the service: settings, runtime, repository, data plane, and routes.

`open_service` is the only way in: for the server of one process (`service.process.server`) and for replicas of a
cluster.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from fastapi import FastAPI

from cifar10_serving import __version__
from cifar10_serving.runtimes.base import Runtime
from cifar10_serving.runtimes.machine import usable_cores
from cifar10_serving.runtimes.selection import open_runtime
from service.api.analyze import compare_routes, explain_routes
from service.api.clouds import cloud_routes
from service.api.kserve.extensions import extension_routes, repository_routes
from service.api.kserve.routes import infer_handler, open_inference_routes
from service.api.large_requests import RequestReader
from service.api.models import model_routes
from service.api.operations import admin_routes, health_routes, instance_routes, metrics_routes, statistics_routes
from service.api.page import page_routes
from service.api.predict import predict_routes
from service.api.tensorflow_serving import tensorflow_serving_routes
from service.errors import SettingsError
from service.http.errors import add_error_handlers
from service.http.forwarding import Forwarding, must_be_stripped, parse_networks
from service.http.middleware import Application, HotRoutes
from service.http.openapi import add_docs, add_openapi
from service.images.decoding import Decoder, DecodeThreads
from service.inference.admission import Admission, Backlog
from service.inference.cache import PredictionCache
from service.inference.pipeline import Pipeline
from service.inference.scheduler import THREAD_NAME_PREFIX, BatchLimits, Scheduler
from service.inference.shadow import Shadow
from service.process.lifecycle import Group, Stop, broadcast_reload, configure_malloc, reload_on_sighup
from service.registry.models_mirror import open_mirror
from service.registry.repository import ModelRepository
from service.registry.watcher import Watcher
from service.settings import Settings, label_set, read_settings, variable
from service.telemetry.logs import RequestLog, is_for_people
from service.telemetry.prometheus import StateSources, current_states
from service.telemetry.reports import Telemetry
from service.telemetry.stats import Stats

DESCRIPTION = """Send an image, get its class.

Select a model with the query parameter `model`; every answer names the model and the version.
Errors are [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem documents."""

LOOK_FOR_STOP_EVERY_S: Final = 0.1
END_LOADING_S: Final = 1.0
"""Time that a shutdown waits for a version to finish loading; the disk may be unresponsive."""
SUGGESTED_PATHS: Final = (
    *("/predict", "/predict/batch", "/compare", "/explain", "/models", "/docs", "/openapi.json"),
    *(
        "/livez",
        "/readyz",
        "/stats",
        "/instance",
        "/metrics",
        "/v1/models",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
    ),
)
"""Paths suggested when a similar path is not found."""

if TYPE_CHECKING:
    from service.http.protocol import BacklogProtocol

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """The assembled service, with what a server needs to run it."""

    settings: Settings
    application: Application
    stop: Stop
    backlog: Backlog
    repository: ModelRepository
    scheduler: Scheduler

    def http_protocol(self) -> "type[BacklogProtocol] | Literal['auto']":
        """Return the protocol class for uvicorn; `auto`, its own, where httptools is missing, as on Windows.

        Raises:
            SettingsError: this uvicorn differs from the supported ones.
        """
        try:
            from service.http.protocol import protocol_with
            from service.http.reading import ConnectionLimits
        except ModuleNotFoundError:
            return "auto"
        settings = self.settings
        limits = ConnectionLimits(
            max_header_bytes=settings.max_header_bytes,
            header_timeout_s=settings.header_timeout_s,
            keep_alive_timeout_s=settings.keep_alive_timeout_s,
            upload_timeout_s=settings.upload_timeout_s,
            request_timeout_s=settings.request_timeout_s,
        )
        return protocol_with(self.backlog, self.application, self.stop, limits=limits)


@dataclass(frozen=True)
class Parts:
    """The parts of the service that routes use."""

    repository: ModelRepository
    pipeline: Pipeline
    reader: RequestReader
    telemetry: Telemetry
    watcher: Watcher
    decode_threads: DecodeThreads
    group: Group


def create_app(settings: Settings | None = None, runtime: Runtime | None = None) -> Application:
    """Return the ASGI application of `open_service`, for servers that need nothing else."""
    return open_service(settings, runtime=runtime).application


def open_service(
    settings: Settings | None = None, *, runtime: Runtime | None = None, group: Group | None = None
) -> Service:
    """Assemble the service.

    A process that is alone loads the models after start-up, while /livez already answers; another one before.

    Args:
        settings: the settings; None to read the environment.
        runtime: the runtime; None for the one that the settings name.
        group: the processes that answer for the same service; None if this one is no replica.

    Raises:
        SettingsError: the models folder can't be read, or (without `settings`) a variable is not valid.
        RuntimeUnavailableError: the requested runtime, device or precision is not available.
    """
    configure_malloc()
    settings, stop, group = settings or read_settings(), Stop(), group or Group.of_this_process()
    runtime = runtime or open_runtime(
        settings.runtime,
        settings.device,
        settings.precision,
        max_batch_size=settings.max_batch_size,
        compiled_models=settings.compiled_models_folder,
    )
    repository = ModelRepository(
        settings.models_folder,
        runtime,
        settings.default_model,
        default_labels=label_set(settings.default_labels),
        version_policy=settings.version_policy,
        drain_limit_s=settings.graceful_shutdown_timeout_s,
        max_accuracy_drop=settings.max_accuracy_drop,
        mirror=open_mirror(settings),
    )
    repository.add_readiness_check(lambda: stop.reason)
    watcher = Watcher(repository, settings.poll_interval_s)
    stats = Stats()
    request_log = RequestLog(settings.access_log_sample_rate, for_people=is_for_people(settings.log_format))
    backlog = open_backlog(settings)
    admission = backlog.admission
    scheduler = Scheduler(
        _batch_limits(settings),
        parallel_batches=usable_cores(),
        batch_computed=stats.batch_computed,
    )
    backlog.limit_of = scheduler.capacity_limit
    cache = PredictionCache(settings.cache_bytes) if settings.cache_bytes else None
    decoder = Decoder(admission, max_image_pixels=settings.max_image_pixels, max_decode_bytes=settings.max_decode_bytes)
    shadow = Shadow(repository, lambda: scheduler.queue_rows > 0, thread_name_prefix=f"{THREAD_NAME_PREFIX}-shadow")
    pipeline = Pipeline(
        repository,
        admission,
        decoder,
        scheduler,
        cache=cache,
        shadow=shadow,
        max_images_per_request=settings.max_images_per_request,
    )
    reader = RequestReader()
    sources = StateSources(repository, backlog, scheduler, cache, decoder.threads, settings.instance_name)
    telemetry = Telemetry(
        stats,
        backlog,
        scheduler,
        lambda: current_states(sources),
        instance=settings.instance_name,
        models=repository.on_this_instance,
    )
    observers = (stats.request_finished, request_log)
    serving_grpc = _import_serving_grpc() if settings.grpc_port else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        logger.info("%s %s on %s, %s", runtime.name, runtime.version, runtime.device, " or ".join(runtime.precisions))
        reload_on_sighup(watcher)
        loading = asyncio.create_task(_load(repository, watcher, stop))
        if group is not Group.ALONE:  # until then the others take the requests
            await _done_or_stopping(loading, stop)
        reporting = asyncio.create_task(telemetry.run())
        async with (
            serving_grpc(
                repository,
                pipeline,
                reader,
                telemetry,
                settings=settings,
                observers=observers,
                stop=stop,
                group=group,
            )
            if serving_grpc
            else nullcontext()
        ):
            yield
        reporting.cancel()
        await _end_loading(repository, loading, watcher)
        pipeline.close()
        await reader.close()
        request_log.flush()

    app = FastAPI(
        title="cifar10-serving",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # openapi and docs have routes of their own
    )
    add_error_handlers(app, SUGGESTED_PATHS)
    hot = HotRoutes(settings)
    _add_routes(app, hot, Parts(repository, pipeline, reader, telemetry, watcher, decoder.threads, group), settings)
    add_openapi(app)
    add_docs(app)
    application = Application(app, hot, settings, forwarding=open_forwarding(settings), observers=observers)
    return Service(settings, application, stop, backlog, repository, scheduler)


def open_backlog(settings: Settings) -> Backlog:
    """Return the backlog, which also counts pending requests."""
    admission = Admission(settings.max_pending_requests, settings.max_pending_bytes)
    return Backlog(admission, settings.max_backlog_requests)


def open_forwarding(settings: Settings) -> Forwarding:
    """Return the object that corrects requests that come through proxies."""
    forwarding = Forwarding(settings.root_path, parse_networks(settings.trusted_proxies))
    if must_be_stripped(forwarding.root_path):
        logger.warning(
            "%s = %s starts like a path of the service: it works only with a proxy that strips the prefix",
            *(variable("root_path"), forwarding.root_path),
        )
    return forwarding


def _add_routes(app: FastAPI, hot: HotRoutes, parts: Parts, settings: Settings) -> None:
    """Add all routes."""
    if (contract := settings.contract()) is not None:
        app.include_router(
            cloud_routes(
                contract, parts.repository, parts.pipeline, parts.reader, decode_threads=parts.decode_threads, hot=hot
            )
        )
    app.include_router(predict_routes(parts.pipeline, hot))
    app.include_router(model_routes(parts.repository))
    app.include_router(compare_routes(parts.repository, parts.pipeline, settings))
    app.include_router(explain_routes(parts.pipeline, settings))
    app.include_router(extension_routes(parts.repository, parts.telemetry, settings))
    infer = infer_handler(parts.pipeline, parts.reader)
    app.include_router(open_inference_routes(parts.repository, infer, hot, settings))
    app.include_router(tensorflow_serving_routes(parts.repository, parts.pipeline, parts.reader, hot))
    app.include_router(health_routes(parts.repository, parts.decode_threads))
    app.include_router(statistics_routes(parts.telemetry))
    app.include_router(instance_routes(parts.repository, parts.telemetry))
    app.include_router(metrics_routes(parts.telemetry))
    if settings.admin_token is not None:
        app.include_router(admin_routes(parts.watcher, settings.admin_token, broadcast=broadcast_reload))
        app.include_router(
            repository_routes(parts.repository, parts.pipeline, settings, settings.admin_token, parts.group)
        )
    app.include_router(page_routes())


def _batch_limits(settings: Settings) -> BatchLimits:
    return BatchLimits(
        max_batch_size=settings.max_batch_size,
        max_batch_delay_s=settings.max_batch_delay_ms / 1000,
        max_queue_size=settings.max_queue_size,
        max_queue_size_per_model=settings.max_queue_size_per_model,
    )


def _import_serving_grpc() -> "Callable[..., AbstractAsyncContextManager[None]]":
    try:
        from service.api.kserve.grpc_server import serving_grpc
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{variable('grpc_port')} is set, but the package {error.name} is not installed",
            expected="this project's extra 'grpc'",
            remedy=f"install requirements/serve.txt, or set {variable('grpc_port')} to 0",
        ) from None
    return serving_grpc


async def _done_or_stopping(loading: "asyncio.Task[None]", stop: Stop) -> None:
    while not loading.done() and not stop.is_requested:
        await asyncio.wait([loading], timeout=LOOK_FOR_STOP_EVERY_S)


async def _end_loading(repository: ModelRepository, loading: "asyncio.Task[None]", watcher: Watcher) -> None:
    repository.stop_loading()
    await asyncio.wait([loading], timeout=END_LOADING_S)
    await asyncio.to_thread(watcher.stop, END_LOADING_S)


async def _load(repository: ModelRepository, watcher: Watcher, stop: Stop) -> None:
    await asyncio.wrap_future(watcher.start_loading())
    if stop.is_requested or not repository.is_loaded:
        return
    reason = repository.not_ready_reason
    if reason is None:
        logger.info("ready; the default model is %s", repository.default_name())
    else:
        logger.error("not ready: %s", reason)
