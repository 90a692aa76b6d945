"""`Client`: blocking methods, safe to share between threads."""

import ssl
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
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
from cifar10_serving.client._attempts import Attempts, Contact, call_ends, hold_deadlines
from cifar10_serving.client._calls import Call
from cifar10_serving.client._config import DEFAULT_URL, NO_RETRIES, Retries, Timeouts, parse_base_url
from cifar10_serving.client._connection import MAX_CONNECTIONS, connection_options, describe_request
from cifar10_serving.client._errors import (
    AnswerTimeoutError,
    ClientError,
    GatewayError,
    TransportError,
    UnavailableError,
)
from cifar10_serving.client._images import EncodedImage, ImageSource, encode_image
from cifar10_serving.client._many import Asking, ImageResult, check_concurrency, predict_in_order
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

__all__ = ["Client"]


class Client:
    """A service's address, and a pool of connections to it.

    Every method may raise a `client.ClientError`.

    Args:
        base_url: the service's address.
        timeouts: the time-outs of a call.
        retries: when a call is retried.
        token: sent as `Authorization: Bearer …`, for example for a proxy.
        headers: sent with every request.
        verify: whether, or against what, certificates are checked.
        max_connections: maximum number of connections; further requests wait.
        transport: sends the requests instead of the network, for tests.

    Raises:
        AddressError: the address is not valid.
        ConfigurationError: the environment names a proxy or certificates that can't be used for the address.
        ValueError: the token is not valid.
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
        transport: httpx.BaseTransport | None = None,
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
        self._http = httpx.Client(transport=transport, **options)
        hold_deadlines(self._http)

    def predict(
        self,
        image: ImageSource,
        *,
        model: str | None = None,
        version: int | str | None = None,
        top_k: int | None = None,
    ) -> Prediction:
        """Classify one image.

        Args:
            image: a path, the bytes of an image file, an open file, a Pillow image of any mode, or an array (height,
                width, 3) uint8 RGB 0..255. Files are sent unchanged, pixels as PNG.
            model: name of the model; by default the service's default model.
            version: number or label of the version; by default the serving one.
            top_k: number of classes to list, at most as many as the model has; 3 by default.
        """
        call = _calls.predict(encode_image(image), model=model, version=version, top_k=top_k)
        return self._ask(call, self._retries)

    def predict_batch(
        self,
        images: Iterable[ImageSource],
        *,
        model: str | None = None,
        version: int | str | None = None,
        top_k: int | None = None,
    ) -> BatchPrediction:
        """Classify several images in one request; each gets its own answer or error, in order.

        The service limits number and size (`max_images_per_request`, `max_body_bytes`); `predict_many` has no limits.
        If a file can't be read, this raises, and nothing is sent.
        """
        encoded = [encode_image(image) for image in images]
        return self._ask(_calls.predict_batch(encoded, model=model, version=version, top_k=top_k), self._retries)

    def predict_many(
        self,
        images: Iterable[ImageSource],
        *,
        model: str | None = None,
        version: int | str | None = None,
        top_k: int | None = None,
        concurrency: int = 8,
    ) -> Generator[ImageResult]:
        """Classify any number of images; yield results in order, with an error for images without an answer.

        Images are taken from the iterable only as results are consumed, so memory stays bounded. Small images share
        requests. While the service can't be reached, images are not retried.

        Args:
            images: images as for `predict`.
            concurrency: number of concurrent requests, each in a thread.

        Raises:
            ValueError: `concurrency` is less than 1.
        """
        check_concurrency(concurrency)

        def one(image: EncodedImage, retries: Retries) -> Prediction:
            return self._ask(_calls.predict(image, model=model, version=version, top_k=top_k), retries)

        def several(encoded: Sequence[EncodedImage], retries: Retries) -> BatchPrediction:
            return self._ask(_calls.predict_batch(encoded, model=model, version=version, top_k=top_k), retries)

        return predict_in_order(Asking(one, several), images, concurrency=concurrency, retries=self._retries)

    def compare(self, image: ImageSource, *, models: Sequence[str] = (), top_k: int | None = None) -> Comparison:
        """Classify one image with several models.

        Args:
            models: NAME or NAME/VERSION each; by default every ready model.
        """
        return self._ask(_calls.compare(encode_image(image), models=models, top_k=top_k), self._retries)

    def explain(
        self,
        image: ImageSource,
        *,
        model: str | None = None,
        version: int | str | None = None,
        class_id: int | None = None,
        patch: int | None = None,
        stride: int | None = None,
    ) -> Explanation:
        """Explain which parts of an image mattered to a model.

        Args:
            class_id: the class to explain, from 0; by default the most probable one.
            patch: side of the square that hides a part, in pixels of the model's input.
            stride: distance between squares, in pixels.
        """
        call = _calls.explain(
            encode_image(image), model=model, version=version, class_id=class_id, patch=patch, stride=stride
        )
        return self._ask(call, self._retries)

    def models(self) -> ModelList:
        """Return every model with its versions, and the runtime."""
        return self._ask(_calls.models(), self._retries)

    def model(self, name: str) -> ModelStatus:
        """Return one model with its versions."""
        return self._ask(_calls.model(name), self._retries)

    def metadata(self, name: str, version: int) -> ModelMetadata:
        """Return the metadata of a version, with its stored evaluations."""
        return self._ask(_calls.metadata(name, version), self._retries)

    def stats(self) -> ServiceStatistics:
        """Return the service's statistics."""
        return self._ask(_calls.stats(), self._retries)

    def ready(self) -> Readiness:
        """Return whether the service answers requests, and why not; without retries."""
        return self._ask(_calls.ready(), NO_RETRIES)

    def wait_until_ready(self, timeout_s: float = 60.0) -> Readiness:
        """Wait until the service is ready, even if it can't be reached yet.

        Raises:
            TransportError: it was not reached in this time.
            NotReadyError: it was reached, but not ready in this time.
        """
        patience = ReadinessPatience(timeout_s)
        while True:
            try:
                readiness = self._ask(_calls.ready(), NO_RETRIES, patience.timeouts(self._timeouts))
                if readiness.ready:
                    return readiness
                wait_s = patience.not_ready(readiness)
            except (TransportError, GatewayError, UnavailableError) as error:
                wait_s = patience.not_reached(error)
            time.sleep(wait_s)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, call: Call[AnyRecord], retries: Retries, timeouts: Timeouts | None = None) -> AnyRecord:
        request = describe_request(call.method, self.base_url, call.path, self._proxy)
        attempts = Attempts(request, timeouts or self._timeouts, retries, self._contact)
        while True:
            try:
                answer = self._send(call, attempts)
                return read_answer(answer, call.record, accepted=call.accepted, names=call.names)
            except ClientError as error:
                wait_s = attempts.wait_s(error)
            time.sleep(wait_s)
            attempts.begin_next()

    def _send(self, call: Call[AnyRecord], attempts: Attempts) -> Answer:
        try:
            with call_ends(attempts.ends_s), httpx_errors(attempts.request):
                return self._exchange(call, attempts)
        except AnswerTimeoutError:
            attempts.left_s()  # raises if the total time-out has passed
            raise

    def _exchange(self, call: Call[AnyRecord], attempts: Attempts) -> Answer:
        timeout = attempts.timeout()
        with self._http.stream(
            call.method, call.path, params=call.parameters, timeout=timeout, **call.sent
        ) as response:
            self._contact.made = True
            check_encoding(response.headers, attempts.request)
            body = bytearray()
            for part in response.iter_bytes():
                body += part
                attempts.left_s()
                if len(body) > MAX_ANSWER_BYTES:
                    raise too_long(attempts.request)
            return Answer(attempts.request, response.status_code, response.headers, bytes(body))
