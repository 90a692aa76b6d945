"""The gRPC server next to the HTTP server, on the same event loop: inference, health and reflection.

The methods are thin wrappers around the code that also serves REST. Limits, batching, deadlines and metrics are those
of the data plane; a client's own deadline is the request's. Messages arrive as bytes and are parsed here, so that a
malformed one gets a readable error and an expensive one doesn't block the others.
"""

import asyncio
import logging
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import grpc
from google.protobuf.json_format import ParseDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from service.api.kserve.codec import requested_version
from service.api.kserve.extensions import (
    UnsupportedExtension,
    load_model,
    repository_index,
    unload_model,
    unsupported_extensions,
)
from service.api.kserve.generated import open_inference_pb2 as pb2
from service.api.kserve.grpc_codec import estimate_parse, infer_response, read_infer_message, read_message
from service.api.kserve.views import (
    ServerMetadata,
    describe_model,
    extensions,
    model_configuration,
    statistics_report,
)
from service.api.large_requests import LARGE_BYTES, RequestReader
from service.api.operations import check_token
from service.errors import (
    CLIENT_GONE,
    RequestError,
    TooLargeError,
    UnavailableError,
    UnknownModelError,
    clear_traceback,
    out_of_memory,
)
from service.http.errors import unexpected
from service.inference.pipeline import Deadline, Pipeline
from service.process.lifecycle import Group, Stop
from service.registry.repository import ModelRepository
from service.settings import Settings, variable
from service.telemetry.reports import Telemetry
from service.telemetry.trace import Observer, Trace

SERVICE: Final = pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
METHODS: Final = pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
STREAM: Final = "ModelStreamInfer"
MESSAGE_COPIES: Final = 2
"""Copies of a message: it stays in memory while its images are answered."""
REQUEST_ID: Final = "x-request-id"
AUTHORIZATION: Final = "authorization"
BEARER: Final = "bearer "
QUESTION_BYTES: Final = 64 * 2**10
"""Maximum length of a message that only names a model and a version."""

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

Method = Callable[[Any, Any, Trace], Awaitable[Any]]
"""Takes a message, or its bytes; the call's context; and the call's trace."""

logger = logging.getLogger(__name__)


class _RejectedError(Exception):
    """Raised for a call that is answered with a status code, a text and metadata."""

    def __init__(self, code: Any, words: str, metadata: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(words)
        self.code = code
        self.words = words
        self.metadata = metadata


@dataclass(frozen=True, slots=True)
class GrpcExchange:
    """A call as the pipeline sees it; gRPC calls don't wait in the backlog."""

    trace: Trace
    ticket: None = None


class InferenceService:
    """Answers from a repository through the data plane.

    Args:
        reader: parses large requests.
        observers: called with each finished request, as for HTTP.
    """

    def __init__(
        self,
        repository: ModelRepository,
        pipeline: Pipeline,
        reader: RequestReader,
        telemetry: Telemetry,
        *,
        settings: Settings,
        observers: Sequence[Observer],
        group: Group,
    ) -> None:
        self._repository = repository
        self._pipeline = pipeline
        self._reader = reader
        self._telemetry = telemetry
        self._settings = settings
        self._observers = observers
        self._group = group
        self._stopping = asyncio.Event()

    def handlers(self) -> Any:
        """Return the handlers for a `grpc.aio.Server`."""
        methods: dict[str, Method] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
        }
        answers = {name: _reading(name, method, max_bytes=QUESTION_BYTES) for name, method in methods.items()}
        answers["ModelInfer"] = self._model_infer
        if self._settings.admin_token is not None:
            operating: dict[str, Method] = {
                "RepositoryIndex": self._index,
                "RepositoryModelLoad": self._load,
                "RepositoryModelUnload": self._unload,
            }
            answers |= {
                name: self._authorized(_reading(name, method, max_bytes=self._settings.max_body_bytes))
                for name, method in operating.items()
            }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._one_answer(name, answer),
                response_serializer=getattr(pb2, METHODS[name].output_type.name).SerializeToString,
            )
            for name, answer in answers.items()
        }
        # Their messages are rejected unread, so their types are not needed.
        handlers |= {
            name: grpc.unary_unary_rpc_method_handler(self._one_answer(name, _rejection(extension)))
            for extension in unsupported_extensions(with_repository=self._settings.admin_token is not None)
            for name in extension.methods
        }
        handlers[STREAM] = grpc.stream_stream_rpc_method_handler(
            self._stream, response_serializer=pb2.ModelStreamInferResponse.SerializeToString
        )
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def end_streams(self) -> None:
        """End every stream after its current answer; new ones end at once."""
        self._stopping.set()

    def _one_answer(self, name: str, method: Method) -> Callable[[Any, Any], Awaitable[Any]]:
        """Return the method with errors turned into status codes."""

        async def answer(content: bytes, context: Any) -> Any:
            request_id = _request_id(context)
            context.set_trailing_metadata(((REQUEST_ID, request_id),))
            try:
                return await self._observed(name, method, content, context, request_id)
            except _RejectedError as error:
                # context.abort would raise an error that the context keeps, and with it this frame and the message.
                context.set_code(error.code)
                context.set_details(error.words)
                context.set_trailing_metadata(((REQUEST_ID, request_id), *error.metadata))
                return None

        return answer

    async def _stream(self, contents: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        """Answer one request after another, each with its own id; a rejected request doesn't end the stream."""
        request_id = _request_id(context)
        context.set_trailing_metadata(((REQUEST_ID, request_id),))
        while (content := await self._next(contents)) is not None:
            try:
                response = await self._observed(STREAM, self._model_infer, content, context, request_id)
            except _RejectedError as error:
                named = pb2.ModelInferResponse(id=estimate_parse(content).id)
                yield pb2.ModelStreamInferResponse(error_message=error.words, infer_response=named)
            else:
                yield pb2.ModelStreamInferResponse(infer_response=response)
        if self._stopping.is_set():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the service is stopping", ((REQUEST_ID, request_id),))

    async def _next(self, contents: AsyncIterator[bytes]) -> bytes | None:
        """Return the next message of a stream; None at its end, or when the service stops."""
        arriving = asyncio.ensure_future(anext(contents, None))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((arriving, stopping), return_when=asyncio.FIRST_COMPLETED)
            return None if self._stopping.is_set() else arriving.result()
        finally:
            arriving.cancel()
            stopping.cancel()

    async def _observed(self, name: str, method: Method, content: bytes, context: Any, request_id: str) -> Any:
        """Return the method's answer, and trace the call like every request.

        Raises:
            _RejectedError: there is no answer.
        """
        trace = Trace("POST", f"/{SERVICE}/{name}", request_id, client=_client(context))
        try:
            response = await method(content, context, trace)
        except (RequestError, MemoryError) as failure:
            error = failure if isinstance(failure, RequestError) else out_of_memory()
            clear_traceback(failure)
            trace.fail(error.kind, error.problem)
            trace.status = error.status
            retry = (("retry-after", str(error.retry_after_s)),) if isinstance(error, UnavailableError) else ()
            raise _RejectedError(grpc.StatusCode[error.grpc_code], str(error), retry) from None
        except asyncio.CancelledError:
            trace.status, trace.error = HTTPStatus.BAD_REQUEST, CLIENT_GONE  # as for HTTP
            raise
        except Exception as error:
            logger.exception("gRPC call %s failed", name)
            trace.status = HTTPStatus.INTERNAL_SERVER_ERROR
            words = f"{unexpected(error)}; see the service's log"
            raise _RejectedError(grpc.StatusCode.INTERNAL, words) from None
        else:
            trace.status = HTTPStatus.OK
            return response
        finally:
            trace.finish(self._observers)

    async def _server_live(self, _message: Any, _context: Any, _new_trace: Trace) -> Any:
        return pb2.ServerLiveResponse(live=True)

    async def _server_ready(self, _message: Any, _context: Any, _new_trace: Trace) -> Any:
        return pb2.ServerReadyResponse(ready=self._repository.not_ready_reason is None)

    async def _model_ready(self, message: Any, _context: Any, _new_trace: Trace) -> Any:
        try:
            self._repository.find(message.name, requested_version(message.version))
        except (UnavailableError, UnknownModelError):  # Triton answers in both cases
            return pb2.ModelReadyResponse(ready=False)
        return pb2.ModelReadyResponse(ready=True)

    async def _server_metadata(self, _message: Any, _context: Any, _new_trace: Trace) -> Any:
        metadata = ServerMetadata(extensions=extensions(with_repository=self._settings.admin_token is not None))
        return pb2.ServerMetadataResponse(**metadata.model_dump())

    async def _model_metadata(self, message: Any, _context: Any, _new_trace: Trace) -> Any:
        return pb2.ModelMetadataResponse(**describe_model(self._repository, message.name, message.version).model_dump())

    async def _model_infer(self, content: bytes, context: Any, trace: Trace) -> Any:
        with self._pipeline.admit(GrpcExchange(trace)) as slot:
            slot.hold_bytes(MESSAGE_COPIES * len(content))
            own_s = context.time_remaining()
            deadline = Deadline.after(min(self._settings.request_timeout_s, math.inf if own_s is None else own_s))
            is_small = len(content) < LARGE_BYTES
            message = await self._reader.read(
                len(content) if is_small else estimate_parse(content).parse_cost_bytes,
                deadline,
                read_infer_message,
                content,
                max_rows=self._pipeline.max_images_per_request,
            )
            del content
            trace.request_model(message.model, message.version or None)
            asked = message.request
            inferred = await self._pipeline.infer(
                asked.inputs,
                trace,
                deadline if asked.timeout_s is None else deadline.at_most(asked.timeout_s),
                model=message.model,
                version=requested_version(message.version),
            )
            return infer_response(asked, inferred.require_all())

    async def _model_config(self, message: Any, _context: Any, _new_trace: Trace) -> Any:
        configuration = model_configuration(self._repository, self._settings, message.name, message.version)
        return pb2.ModelConfigResponse(config=ParseDict(configuration, pb2.ModelConfig()))

    async def _model_statistics(self, message: Any, _context: Any, _new_trace: Trace) -> Any:
        report = statistics_report(self._repository, self._telemetry, message.name, message.version)
        return pb2.ModelStatisticsResponse(**report.model_dump())

    async def _index(self, message: Any, _context: Any, _new_trace: Trace) -> Any:
        entries = repository_index(self._repository, only_ready=message.ready)
        return pb2.RepositoryIndexResponse(models=[entry.model_dump() for entry in entries])

    async def _load(self, message: Any, _context: Any, _new_trace: Trace) -> Any:
        await load_model(self._repository, message.model_name, dict(message.parameters), self._group)
        return pb2.RepositoryModelLoadResponse()

    async def _unload(self, message: Any, _context: Any, _new_trace: Trace) -> Any:
        await unload_model(self._repository, message.model_name, self._group)
        return pb2.RepositoryModelUnloadResponse()

    def _authorized(self, method: Method) -> Method:
        """Return the method for callers with the token; for others not even the message is read."""

        async def answer(content: bytes, context: Any, trace: Trace) -> Any:
            self._authorize(context)
            return await method(content, context, trace)

        return answer

    def _authorize(self, context: Any) -> None:
        """Check that the metadata contain the token, in the same form as HTTP's header.

        Raises:
            UnauthorizedError: they don't.
        """
        token = self._settings.admin_token
        if token is None:
            raise AssertionError(f"no method asks for {variable('admin_token')} where it is not set")
        given = str(dict(context.invocation_metadata() or ()).get(AUTHORIZATION, ""))
        is_bearer = given.lower().startswith(BEARER)
        check_token(given[len(BEARER) :].encode("latin-1", "replace") if is_bearer else None, token)


def _request_id(context: Any) -> str:
    metadata = dict(context.invocation_metadata() or ())
    return str(metadata.get(REQUEST_ID) or os.urandom(16).hex())[:128]


def _client(context: Any) -> str:
    """Return the address and port of a call's client, from `ipv4:127.0.0.1:40000` or `ipv6:%5B::1%5D:40000`."""
    return unquote(str(context.peer())).removeprefix("ipv4:").removeprefix("ipv6:")


def _reading(name: str, method: Method, *, max_bytes: int) -> Method:
    """Return the method with its message parsed from bytes."""
    kind = getattr(pb2, METHODS[name].input_type.name)

    async def answer(content: bytes, context: Any, trace: Trace) -> Any:
        if len(content) > max_bytes:
            raise TooLargeError(f"the message has {len(content):,} bytes", expected=f"at most {max_bytes:,}")
        return await method(read_message(kind, content), context, trace)

    return answer


def _rejection(extension: UnsupportedExtension) -> Method:
    async def reject(_message: Any, _context: Any, _new_trace: Trace) -> Any:
        raise extension.error()

    return reject


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
    group: Group,
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
    service = InferenceService(
        repository, pipeline, reader, telemetry, settings=settings, observers=observers, group=group
    )
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
