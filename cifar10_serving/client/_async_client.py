"""`AsyncClient`: the calls of `Client`, for asyncio."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

import httpx

from cifar10_serving.artifacts.metadata import ModelMetadata
from cifar10_serving.client import _calls
from cifar10_serving.client._answers import (
    MAX_ANSWER_BYTES,
    Answer,
    AnyRecord,
    check_encoding,
    httpx_errors,
    read_answer,
    too_long,
)
from cifar10_serving.client._attempts import Attempts, Contact
from cifar10_serving.client._calls import Call
from cifar10_serving.client._config import DEFAULT_URL, NO_RETRIES, Retries, Timeouts, parse_base_url
from cifar10_serving.client._connection import MAX_CONNECTIONS, connection_options, describe_request
from cifar10_serving.client._errors import ClientError, GatewayError, TransportError, UnavailableError
from cifar10_serving.client._images import EncodedImage, ImageSource, encode_image, is_quick
from cifar10_serving.client._many import AsyncAsking, ImageResult, check_concurrency, predict_in_order_async
from cifar10_serving.client._readiness import ReadinessPatience
from cifar10_serving.schemas import (
    BatchPrediction,
    Comparison,
    Explanation,
    ModelList,
    ModelStatus,
    Prediction,
    Readiness,
    ServiceStatistics,
)

__all__ = ["AsyncClient"]


class AsyncClient:
    """A service's address, and a pool of connections to it; for one event loop of asyncio.

    Every call may raise a `client.ClientError`, whose classes say what was wrong.

    Args:
        base_url: the service's address.
        timeouts: how long a call may take.
        retries: when a call is tried again.
        token: sent as `Authorization: Bearer …`, where something in front of the service asks for it.
        headers: sent with every request.
        verify: whether, or against what, a certificate is checked.
        max_connections: connections at a time; what needs one more waits.
        transport: sends the requests in the network's place, for tests.

    Raises:
        AddressError: the address is none.
        ConfigurationError: the environment names a proxy or certificates for it that can't be used.
        ValueError: the token is not one.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        timeouts: Timeouts = Timeouts(),
        retries: Retries = Retries(),
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        verify: ssl.SSLContext | bool = True,
        max_connections: int = MAX_CONNECTIONS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = parse_base_url(base_url)
        self._timeouts = timeouts
        self._retries = retries
        self._contact = Contact()
        options = connection_options(
            self.base_url,
            token=token,
            headers=headers,
            verify=verify,
            max_connections=max_connections,
            own_transport=transport is not None,
        )
        self._proxy = options.get("proxy")
        self._http = httpx.AsyncClient(transport=transport, **options)

    async def predict(
        self,
        image: ImageSource,
        *,
        model: str | None = None,
        version: int | str | None = None,
        top_k: int | None = None,
    ) -> Prediction:
        """The class of one image.

        Args:
            image: a path, the bytes of an image file, an open file, a Pillow image of any mode, or an array (height,
                width, 3) uint8 RGB 0..255. Files are sent as they are, pixels as PNG.
            model: its name; without it the service's default.
            version: a number or a label; without it the one that serves.
            top_k: how many classes to list, at most as many as the model has; 3 by default.
        """
        call = _calls.predict(await _encoded(image), model=model, version=version, top_k=top_k)
        return await self._ask(call, self._retries)

    async def predict_batch(
        self,
        images: Iterable[ImageSource],
        *,
        model: str | None = None,
        version: int | str | None = None,
        top_k: int | None = None,
    ) -> BatchPrediction:
        """The classes of several images, in one request; each gets its own answer or error, in order.

        The service limits their number and bytes (`max_images_per_request`, `max_body_bytes`); `predict_many` has no
        limits. A file that can't be read here raises, and nothing is sent.
        """
        encoded = [await _encoded(image) for image in images]
        return await self._ask(_calls.predict_batch(encoded, model=model, version=version, top_k=top_k), self._retries)

    def predict_many(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        model: str | None = None,
        version: int | str | None = None,
        top_k: int | None = None,
        concurrency: int = 8,
    ) -> AsyncGenerator[ImageResult]:
        """The classes of any number of images, in order, as they come; an image without an answer has its error.

        Images are taken from the iterable only as results are taken from here, so memory stays bounded. Small ones
        that wait go several in a request. While the service can't be reached, an image is tried once.

        Args:
            images: what `predict` takes, from an iterable or an asynchronous one.
            concurrency: how many requests there are at a time.

        Raises:
            ValueError: `concurrency` is less than 1.
        """
        check_concurrency(concurrency)

        async def one(image: EncodedImage, retries: Retries) -> Prediction:
            return await self._ask(_calls.predict(image, model=model, version=version, top_k=top_k), retries)

        async def several(encoded: Sequence[EncodedImage], retries: Retries) -> BatchPrediction:
            return await self._ask(_calls.predict_batch(encoded, model=model, version=version, top_k=top_k), retries)

        asking = AsyncAsking(one, several)
        return predict_in_order_async(asking, images, concurrency=concurrency, retries=self._retries)

    async def compare(self, image: ImageSource, *, models: Sequence[str] = (), top_k: int | None = None) -> Comparison:
        """What several models say of one image, side by side.

        Args:
            models: NAME or NAME/VERSION each; without any, every model that is ready.
        """
        return await self._ask(_calls.compare(await _encoded(image), models=models, top_k=top_k), self._retries)

    async def explain(
        self,
        image: ImageSource,
        *,
        model: str | None = None,
        version: int | str | None = None,
        class_id: int | None = None,
        patch: int | None = None,
        stride: int | None = None,
    ) -> Explanation:
        """What mattered to a model in one image.

        Args:
            class_id: the class to explain, 0 to 9; by default the most probable one.
            patch: side of the square that hides a part, in pixels of the model's input.
            stride: from one square to the next, in pixels.
        """
        call = _calls.explain(
            await _encoded(image), model=model, version=version, class_id=class_id, patch=patch, stride=stride
        )
        return await self._ask(call, self._retries)

    async def models(self) -> ModelList:
        """Every model with its versions, and what computes."""
        return await self._ask(_calls.models(), self._retries)

    async def model(self, name: str) -> ModelStatus:
        """One model with its versions."""
        return await self._ask(_calls.model(name), self._retries)

    async def metadata(self, name: str, version: int) -> ModelMetadata:
        """Everything that is known of a version, its stored evaluation among it."""
        return await self._ask(_calls.metadata(name, version), self._retries)

    async def stats(self) -> ServiceStatistics:
        """How busy the service is."""
        return await self._ask(_calls.stats(), self._retries)

    async def ready(self) -> Readiness:
        """Whether the service answers requests, and why not; asked once."""
        return await self._ask(_calls.ready(), NO_RETRIES)

    async def wait_until_ready(self, timeout_s: float = 60.0) -> Readiness:
        """Ask until the service is ready; one that isn't reached yet may still start.

        Raises:
            TransportError: it was not reached in this time.
            NotReadyError: it was reached, and not ready in this time.
        """
        patience = ReadinessPatience(timeout_s)
        while True:
            try:
                readiness = await self._ask(_calls.ready(), NO_RETRIES, patience.timeouts(self._timeouts))
                if readiness.ready:
                    return readiness
                wait_s = patience.not_ready(readiness)
            except (TransportError, GatewayError, UnavailableError) as error:
                wait_s = patience.not_reached(error)
            await asyncio.sleep(wait_s)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _ask(self, call: Call[AnyRecord], retries: Retries, timeouts: Timeouts | None = None) -> AnyRecord:
        request = describe_request(call.method, self.base_url, call.path, self._proxy)
        attempts = Attempts(request, timeouts or self._timeouts, retries, self._contact)
        while True:
            try:
                answer = await self._send(call, attempts)
                return read_answer(answer, call.record, accepted=call.accepted, names=call.names)
            except ClientError as error:
                wait_s = attempts.wait_s(error)
            await asyncio.sleep(wait_s)
            attempts.begin_next()

    async def _send(self, call: Call[AnyRecord], attempts: Attempts) -> Answer:
        try:
            async with asyncio.timeout(attempts.left_s()):
                with httpx_errors(attempts.request):
                    return await self._exchange(call, attempts)
        except TimeoutError:
            raise attempts.out_of_time() from None

    async def _exchange(self, call: Call[AnyRecord], attempts: Attempts) -> Answer:
        timeout = attempts.timeout()
        async with self._http.stream(
            call.method, call.path, params=call.parameters, timeout=timeout, **call.sent
        ) as response:
            self._contact.made = True
            check_encoding(response.headers, attempts.request)
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MAX_ANSWER_BYTES:
                    raise too_long(attempts.request)
            return Answer(attempts.request, response.status_code, response.headers, bytes(body))


async def _encoded(image: ImageSource) -> EncodedImage:
    """Off the event loop, unless there is nothing to read or encode."""
    if is_quick(image):
        return encode_image(image)
    return await asyncio.to_thread(encode_image, image)
