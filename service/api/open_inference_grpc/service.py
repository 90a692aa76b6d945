"""The methods of `inference.GRPCInferenceService`: each is a thin skin over what REST answers with, too.

Limits, batches, deadlines and metrics are the data plane's, as for every protocol; a client's own deadline is the
request's.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, Final

import grpc
from google.protobuf.json_format import ParseDict

from service.api.admin import check_token
from service.api.client_watch import CLIENT_GONE
from service.api.inferring import infer_all
from service.api.open_inference.configuration import model_configuration
from service.api.open_inference.metadata import ServerMetadata, describe_model, extensions, requested_version
from service.api.open_inference.repository import load_model, repository_index, unload_model
from service.api.open_inference.statistics import statistics_report
from service.api.open_inference.unsupported import UnsupportedExtension, unsupported_extensions
from service.api.open_inference_grpc.generated import open_inference_pb2 as pb2
from service.api.open_inference_grpc.messages import infer_response, read_infer_request
from service.core.inference import Inference
from service.core.observation import Observation
from service.core.repository import ModelRepository
from service.errors import RequestError, UnavailableError, UnknownModelError
from service.model_statistics import ModelStatistics
from service.observing import Observer
from service.settings import Settings, variable

SERVICE: Final = pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
STREAM: Final = "ModelStreamInfer"
REQUEST_ID: Final = "x-request-id"
AUTHORIZATION: Final = "authorization"
BEARER: Final = "bearer "
CODES: Final = {
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.NOT_IMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""Of errors by their HTTP status; every other one is INVALID_ARGUMENT."""

Method = Callable[[Any, Any, Observation], Awaitable[Any]]

logger = logging.getLogger(__name__)


class _RefusedError(Exception):
    """A call that is answered with a status code, words, and metadata of its own."""

    def __init__(self, code: Any, words: str, metadata: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(words)
        self.code = code
        self.words = words
        self.metadata = metadata


class InferenceService:
    """Answers from a repository and by the data plane.

    Args:
        observers: told when a request has ended, as for HTTP.
    """

    def __init__(
        self,
        repository: ModelRepository,
        inference: Inference,
        statistics: ModelStatistics,
        settings: Settings,
        observers: Sequence[Observer],
    ) -> None:
        self._repository = repository
        self._inference = inference
        self._statistics = statistics
        self._settings = settings
        self._observers = observers
        self._stopping = asyncio.Event()

    def handlers(self) -> Any:
        """What a `grpc.aio.Server` is given."""
        methods: dict[str, Method] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
        }
        if self._settings.admin_token is not None:
            methods |= {
                "RepositoryIndex": self._index,
                "RepositoryModelLoad": self._load,
                "RepositoryModelUnload": self._unload,
            }
        unsupported = unsupported_extensions(with_repository=self._settings.admin_token is not None)
        described = pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._one_answer(name, method),
                request_deserializer=getattr(pb2, described[name].input_type.name).FromString,
                response_serializer=getattr(pb2, described[name].output_type.name).SerializeToString,
            )
            for name, method in methods.items()
        }
        # Their messages are refused unread, so there is no need to know them.
        handlers |= {
            name: grpc.unary_unary_rpc_method_handler(self._one_answer(name, _refusal(extension)))
            for extension in unsupported
            for name in extension.methods
        }
        handlers[STREAM] = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=pb2.ModelInferRequest.FromString,
            response_serializer=pb2.ModelStreamInferResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def end_streams(self) -> None:
        """Have every stream end after the answer that it is at; new ones end at once."""
        self._stopping.set()

    def _one_answer(self, name: str, method: Method) -> Callable[[Any, Any], Awaitable[Any]]:
        """The method with errors as status codes."""

        async def answer(message: Any, context: Any) -> Any:
            request_id = _request_id(context)
            context.set_trailing_metadata(((REQUEST_ID, request_id),))
            try:
                return await self._observed(name, method, message, context, request_id)
            except _RefusedError as error:
                refused = error
            return await context.abort(refused.code, refused.words, ((REQUEST_ID, request_id), *refused.metadata))

        return answer

    async def _stream(self, messages: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Answers to one request after the other, each with its own id; one that is refused doesn't end the stream."""
        request_id = _request_id(context)
        context.set_trailing_metadata(((REQUEST_ID, request_id),))
        while (message := await self._next(messages)) is not None:
            try:
                response = await self._observed(STREAM, self._model_infer, message, context, request_id)
            except _RefusedError as error:
                named = pb2.ModelInferResponse(id=message.id)
                yield pb2.ModelStreamInferResponse(error_message=error.words, infer_response=named)
            else:
                yield pb2.ModelStreamInferResponse(infer_response=response)
        if self._stopping.is_set():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the service is stopping", ((REQUEST_ID, request_id),))

    async def _next(self, messages: AsyncIterator[Any]) -> Any:
        """The next message of a stream; None where there are no more, or the service stops."""
        arriving = asyncio.ensure_future(anext(messages, None))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((arriving, stopping), return_when=asyncio.FIRST_COMPLETED)
            return None if self._stopping.is_set() else arriving.result()
        finally:
            arriving.cancel()
            stopping.cancel()

    async def _observed(self, name: str, method: Method, message: Any, context: Any, request_id: str) -> Any:
        """The method's answer, observed as that of every request is.

        Raises:
            _RefusedError: there is none.
        """
        observation = Observation("POST", f"/{SERVICE}/{name}", request_id)
        try:
            response = await method(message, context, observation)
        except RequestError as error:
            observation.error, observation.status = error.kind, error.status
            retry = (("retry-after", str(error.retry_after_s)),) if isinstance(error, UnavailableError) else ()
            raise _RefusedError(CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT), str(error), retry) from None
        except asyncio.CancelledError:
            observation.error = CLIENT_GONE
            raise
        except Exception as error:
            logger.exception("%s", name)
            observation.status = HTTPStatus.INTERNAL_SERVER_ERROR
            words = f"an unexpected {type(error).__name__}; the service's log tells more"
            raise _RefusedError(grpc.StatusCode.INTERNAL, words) from None
        else:
            observation.status = HTTPStatus.OK
            return response
        finally:
            observation.total_s = time.monotonic() - observation.start_s
            for observer in self._observers:
                observer(observation)

    async def _server_live(self, _message: Any, _context: Any, _observation: Observation) -> Any:
        return pb2.ServerLiveResponse(live=True)

    async def _server_ready(self, _message: Any, _context: Any, _observation: Observation) -> Any:
        return pb2.ServerReadyResponse(ready=self._repository.not_ready_reason is None)

    async def _model_ready(self, message: Any, _context: Any, _observation: Observation) -> Any:
        try:
            self._repository.find(message.name, requested_version(message.version))
        except (UnavailableError, UnknownModelError):  # for both Triton answers instead of refusing
            return pb2.ModelReadyResponse(ready=False)
        return pb2.ModelReadyResponse(ready=True)

    async def _server_metadata(self, _message: Any, _context: Any, _observation: Observation) -> Any:
        told = ServerMetadata(extensions=extensions(with_repository=self._settings.admin_token is not None))
        return pb2.ServerMetadataResponse(**told.model_dump())

    async def _model_metadata(self, message: Any, _context: Any, _observation: Observation) -> Any:
        return pb2.ModelMetadataResponse(**describe_model(self._repository, message.name, message.version).model_dump())

    async def _model_infer(self, message: Any, context: Any, observation: Observation) -> Any:
        observation.is_inference = True
        with self._inference.slot() as slot:
            slot.hold_bytes(message.ByteSize())
            asked = read_infer_request(message)
            limits_s = (self._settings.request_timeout_s, asked.timeout_s, context.time_remaining())
            inferred = await infer_all(
                self._inference,
                asked.images,
                asked.files,
                observation,
                model=message.model_name,
                version=requested_version(message.model_version),
                timeout_s=min(limit_s for limit_s in limits_s if limit_s is not None),
            )
            return infer_response(asked, inferred)

    async def _model_config(self, message: Any, _context: Any, _observation: Observation) -> Any:
        configuration = model_configuration(self._repository, self._settings, message.name, message.version)
        return pb2.ModelConfigResponse(config=ParseDict(configuration, pb2.ModelConfig()))

    async def _model_statistics(self, message: Any, _context: Any, _observation: Observation) -> Any:
        report = statistics_report(self._repository, self._statistics, message.name, message.version)
        return pb2.ModelStatisticsResponse(**report.model_dump())

    async def _index(self, message: Any, context: Any, _observation: Observation) -> Any:
        self._authorize(context)
        entries = repository_index(self._repository, only_ready=message.ready)
        return pb2.RepositoryIndexResponse(models=[entry.model_dump() for entry in entries])

    async def _load(self, message: Any, context: Any, _observation: Observation) -> Any:
        self._authorize(context)
        await load_model(self._repository, message.model_name, dict(message.parameters))
        return pb2.RepositoryModelLoadResponse()

    async def _unload(self, message: Any, context: Any, _observation: Observation) -> Any:
        self._authorize(context)
        await unload_model(self._repository, message.model_name)
        return pb2.RepositoryModelUnloadResponse()

    def _authorize(self, context: Any) -> None:
        """Whether the metadata have the token, as HTTP's header has it.

        Raises:
            UnauthorizedError: they have not.
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


def _refusal(extension: UnsupportedExtension) -> Method:
    async def refuse(_message: Any, _context: Any, _observation: Observation) -> Any:
        raise extension.error()

    return refuse
