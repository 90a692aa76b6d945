"""The methods of `inference.GRPCInferenceService`: each is a thin skin over what REST answers with, too.

Limits, batches, deadlines and metrics are the data plane's, as for every protocol; a client's own deadline is the
request's.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, Final

import grpc

from service.api.admin import check_token
from service.api.client_watch import CLIENT_GONE
from service.api.inferring import infer_all
from service.api.open_inference.metadata import ServerMetadata, describe_model, extensions, requested_version
from service.api.open_inference.repository import load_model, repository_index, unload_model
from service.api.open_inference_grpc.generated import open_inference_pb2 as pb2
from service.api.open_inference_grpc.messages import infer_response, read_infer_request
from service.core.inference import Inference
from service.core.observation import Observation
from service.core.repository import ModelRepository
from service.errors import RequestError, UnavailableError
from service.observing import Observer
from service.settings import Settings, variable

SERVICE: Final = pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
REQUEST_ID: Final = "x-request-id"
AUTHORIZATION: Final = "authorization"
BEARER: Final = "bearer "
CODES: Final = {
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""Of errors by their HTTP status; every other one is INVALID_ARGUMENT."""

Method = Callable[[Any, Any, Observation], Awaitable[Any]]

logger = logging.getLogger(__name__)


class InferenceService:
    """Answers from a repository and by the data plane.

    Args:
        observers: told when a request has ended, as for HTTP.
    """

    def __init__(
        self, repository: ModelRepository, inference: Inference, settings: Settings, observers: Sequence[Observer]
    ) -> None:
        self._repository = repository
        self._inference = inference
        self._settings = settings
        self._observers = observers

    def handlers(self) -> Any:
        """What a `grpc.aio.Server` is given."""
        methods: dict[str, Method] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
        }
        if self._settings.admin_token is not None:
            methods |= {
                "RepositoryIndex": self._index,
                "RepositoryModelLoad": self._load,
                "RepositoryModelUnload": self._unload,
            }
        described = pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._observed(name, method),
                request_deserializer=getattr(pb2, described[name].input_type.name).FromString,
                response_serializer=getattr(pb2, described[name].output_type.name).SerializeToString,
            )
            for name, method in methods.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _observed(self, name: str, method: Method) -> Callable[[Any, Any], Awaitable[Any]]:
        """The method with errors as status codes, and observed as every request is."""

        async def answer(message: Any, context: Any) -> Any:
            metadata = dict(context.invocation_metadata() or ())
            request_id = str(metadata.get(REQUEST_ID) or os.urandom(16).hex())[:128]
            observation = Observation("POST", f"/{SERVICE}/{name}", request_id)
            context.set_trailing_metadata(((REQUEST_ID, request_id),))
            try:
                response = await method(message, context, observation)
            except RequestError as error:
                observation.error, observation.status = error.kind, error.status
                code, words = CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT), str(error)
                retry = (("retry-after", str(error.retry_after_s)),) if isinstance(error, UnavailableError) else ()
                trailing = ((REQUEST_ID, request_id), *retry)
            except asyncio.CancelledError:
                observation.error = CLIENT_GONE
                raise
            except Exception as error:
                logger.exception("%s", name)
                observation.status = HTTPStatus.INTERNAL_SERVER_ERROR
                code, trailing = grpc.StatusCode.INTERNAL, ((REQUEST_ID, request_id),)
                words = f"an unexpected {type(error).__name__}; the service's log tells more"
            else:
                observation.status = HTTPStatus.OK
                return response
            finally:
                observation.total_s = time.monotonic() - observation.start_s
                for observer in self._observers:
                    observer(observation)
            return await context.abort(code, words, trailing)

        return answer

    async def _server_live(self, _message: Any, _context: Any, _observation: Observation) -> Any:
        return pb2.ServerLiveResponse(live=True)

    async def _server_ready(self, _message: Any, _context: Any, _observation: Observation) -> Any:
        return pb2.ServerReadyResponse(ready=self._repository.not_ready_reason is None)

    async def _model_ready(self, message: Any, _context: Any, _observation: Observation) -> Any:
        try:
            self._repository.find(message.name, requested_version(message.version))
        except UnavailableError:
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
