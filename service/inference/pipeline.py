"""The data plane of a request of any protocol: choose a version, decode, compute, and name the best classes."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np

from cifar10_serving.artifacts.metadata import IMAGES, InputShape
from cifar10_serving.runtimes.base import Images, Probabilities
from cifar10_serving.schemas import Prediction
from service.errors import DeadlineError, InvalidRequestError, RequestError, TooLargeError, clear_traceback
from service.images.decoding import Decoder
from service.images.fast_decode import decode_unchanged
from service.inference.admission import Admission, Slot
from service.inference.cache import PredictionCache
from service.inference.scheduler import Computed, Scheduler
from service.inference.shadow import Shadow
from service.registry.repository import ModelRepository, ModelVersion
from service.telemetry.trace import Trace

FEW_CLASSES: Final = 64
"""Number of classes up to which Python's sort is faster than numpy's."""
DEFAULT_MAX_IMAGES_PER_REQUEST: Final = 512
MAX_REQUEST_PROBABILITIES: Final = 2**20
"""Maximum number of probabilities in one answer; as JSON each takes about 20 bytes."""
MAX_REQUEST_PIXEL_BYTES: Final = 2**29
SMALL_IMAGE_BYTES: Final = 2**16
"""Size of pixels above which an image counts towards the bytes that requests hold."""


def top_classes(probabilities: Probabilities, top_k: int) -> list[tuple[int, float]]:
    """Return the most probable classes of one image with their probabilities; ties go to the lower class number.

    Args:
        probabilities: (classes,) float32; clipped to 0..1 against rounding errors.
        top_k: number of classes, from 1; all if there are fewer.
    """
    if len(probabilities) > FEW_CLASSES:
        best = np.argsort(-probabilities, kind="stable")[:top_k]
        return [(index, min(1.0, max(0.0, float(probabilities[index])))) for index in best.tolist()]
    values: list[float] = probabilities.tolist()
    order = sorted(range(len(values)), key=values.__getitem__, reverse=True)[:top_k]
    return [(index, min(1.0, max(0.0, values[index]))) for index in order]


def prediction_document(version: ModelVersion, probabilities: Probabilities, top_k: int) -> dict[str, Any]:
    """Return a `cifar10_serving.schemas.Prediction` as JSON's types."""
    labels = version.labels
    top = [
        {"label": labels[index], "class_id": index, "probability": value}
        for index, value in top_classes(probabilities, top_k)
    ]
    best = top[0]
    return {
        "model": version.name,
        "version": version.version,
        "label": best["label"],
        "class_id": best["class_id"],
        "confidence": best["probability"],
        "precision": version.precision,
        "top": top,
    }


def name_classes(version: ModelVersion, probabilities: Probabilities, top_k: int) -> Prediction:
    """Return the answer for one image as a record."""
    return Prediction.model_validate(prediction_document(version, probabilities, top_k))


@dataclass(frozen=True, slots=True)
class Deadline:
    """A request's deadline: `expires_s` in `time.monotonic`'s time."""

    timeout_s: float
    expires_s: float

    @classmethod
    def after(cls, timeout_s: float) -> "Deadline":
        """Return the deadline after this time."""
        return cls(timeout_s, time.monotonic() + timeout_s)

    @property
    def left_s(self) -> float:
        """Return the seconds that are left, 0 if it has passed."""
        return max(0.0, self.expires_s - time.monotonic())

    def at_most(self, timeout_s: float) -> "Deadline":
        """Return this deadline, or the one after this time if it is earlier."""
        return self if timeout_s >= self.left_s else Deadline.after(timeout_s)

    def passed(self) -> DeadlineError:
        """Return the error for a missed deadline."""
        return DeadlineError(f"no answer within {self.timeout_s:.3g} s", remedy="send less at once, or try again later")


@dataclass(frozen=True, slots=True)
class Inferred:
    """A version's answer: `probabilities` (images, classes) float32 of the inputs that could be decoded, in order.

    `errors` has the errors of the others, by their index among all inputs.
    """

    version: ModelVersion
    probabilities: Probabilities
    errors: dict[int, RequestError] = field(default_factory=dict)

    def results(self) -> Iterator[Probabilities | RequestError]:
        """Yield for each input its probabilities (classes,) float32, or its error."""
        rows = iter(self.probabilities)
        for index in range(len(self.probabilities) + len(self.errors)):
            yield self.errors[index] if index in self.errors else next(rows)

    def require_all(self, *, name_index: bool = True) -> "Inferred":
        """Return the answer if no input failed; for protocols with one answer for the whole request.

        Args:
            name_index: whether the error names the index of the image.

        Raises:
            RequestError: the error of the first image that could not be decoded.
        """
        for index, error in self.errors.items():
            if name_index:
                error.problem = f"image {index}: {error.problem}"
            raise error
        return self


class Pipeline:
    """The data plane: a handler calls `admit`, and within it `infer`.

    Args:
        repository: the versions.
        admission: the slots for requests.
        decoder: turns files into pixels.
        scheduler: turns pixels into probabilities.
        cache: the cache of answers; None for none.
        shadow: compares answers with shadow versions.
        max_images_per_request: maximum number of images in one request.
    """

    def __init__(
        self,
        repository: ModelRepository,
        admission: Admission,
        decoder: Decoder,
        scheduler: Scheduler,
        *,
        cache: PredictionCache | None = None,
        shadow: Shadow | None = None,
        max_images_per_request: int = DEFAULT_MAX_IMAGES_PER_REQUEST,
    ) -> None:
        self._repository = repository
        self._admission = admission
        self._decoder = decoder
        self._scheduler = scheduler
        self._cache = cache
        self._shadow = shadow
        self.max_images_per_request = max_images_per_request
        self.admit = partial(Slot, admission)
        """Hold a slot for a request while a `with` block runs, from before its body is read to its answer.

        The argument is the exchange, if it is a prediction request. Entering raises an `UnavailableError` if load
        shedding has rejected the request or all slots are in use.
        """

    @contextmanager
    def lease(
        self, trace: Trace, *, model: str | None = None, version: int | str | None = None
    ) -> Iterator[ModelVersion]:
        """Hold the requested version while a `with` block runs; for callers that need it before `infer`.

        Raises:
            RequestError: there is none, or it is not ready.
        """
        chosen = self._repository.acquire(model, version)
        trace.model, trace.version = chosen.name, chosen.version
        try:
            yield chosen
        finally:
            chosen.release()

    def max_images(self, version: ModelVersion) -> int:
        """Return the maximum number of images in one request; less than the setting for large images or answers."""
        return min(
            self.max_images_per_request,
            MAX_REQUEST_PROBABILITIES // max(1, len(version.labels)),
            MAX_REQUEST_PIXEL_BYTES // max(1, version.image_bytes),
        )

    async def decode(self, content: bytes, shape: InputShape, trace: Trace, deadline: Deadline) -> Images:
        """Return the pixels (1, height, width, 3) uint8 RGB 0..255 of an encoded image; requires an admission slot.

        Raises:
            RequestError: it can't be decoded, or not in time.
        """
        start_s = time.monotonic()
        try:
            images = await self._decoder.decode(content, shape, deadline.expires_s)
        except TimeoutError:
            raise deadline.passed() from None
        trace.decode_s = time.monotonic() - start_s
        return images

    async def infer(
        self,
        inputs: Images | Sequence[bytes],
        trace: Trace,
        deadline: Deadline,
        *,
        model: str | None = None,
        version: int | str | None = None,
        leased: ModelVersion | None = None,
        is_shadowed: bool = True,
    ) -> Inferred:
        """Compute the probabilities of images; requires an admission slot. Undecodable files don't affect others.

        Args:
            inputs: (rows, height, width, 3) uint8 RGB 0..255 of the version's input size, or encoded images.
            trace: the request's trace.
            deadline: the request's deadline.
            model: name of the model; None for the default model.
            version: number or label of the version; None for the serving version.
            leased: the version, if the caller holds it already.
            is_shadowed: False for generated images, which would bias the comparison with a shadow.

        Raises:
            RequestError: no image can be answered; see the tree in `service.errors`.
        """
        chosen = leased or self._repository.acquire(model, version)
        trace.model, trace.version = chosen.name, chosen.version
        errors: dict[int, RequestError] = {}
        rows, held_bytes = len(inputs), 0
        try:
            if rows > 1:
                check_rows(rows, self.max_images(chosen))
            if chosen.image_bytes > SMALL_IMAGE_BYTES:
                held_bytes = self._hold_bytes(rows * chosen.image_bytes)
            if isinstance(inputs, np.ndarray):
                if inputs.shape[1:] != chosen.input_shape:
                    raise wrong_shape(inputs.shape, chosen.input_shape)
                # Pixels always go through the queue, so that the same pixels give bit-identical results, which /compare
                # relies on.
                images = inputs
                probabilities = await self._compute_many(chosen, images, trace, deadline)
            else:
                images = await self._decode(inputs, chosen.input_shape, errors, trace, deadline)
                probabilities = await self._compute(chosen, images, trace, deadline)
            if is_shadowed and self._shadow is not None and self._repository.has_shadows:
                for pixels, row in zip(images, probabilities, strict=True):
                    self._shadow.offer(chosen, pixels, row)
        except TimeoutError:
            raise deadline.passed() from None
        finally:
            if held_bytes:
                self._admission.pending_bytes -= held_bytes
            if leased is None:
                chosen.release()
        return Inferred(chosen, probabilities, errors)

    def _hold_bytes(self, size_bytes: int) -> int:
        """Count pixels towards the bytes that requests hold.

        Raises:
            UnavailableError: all requests together would hold too many.
        """
        admission = self._admission
        if admission.pending_bytes and admission.pending_bytes + size_bytes > admission.max_pending_bytes:
            raise admission.too_many_bytes()
        admission.pending_bytes += size_bytes
        return size_bytes

    async def _decode(
        self,
        files: Sequence[bytes],
        shape: InputShape,
        errors: dict[int, RequestError],
        trace: Trace,
        deadline: Deadline,
    ) -> Images:
        """Return the images that can be decoded, in order, and put the errors of the others into `errors`."""
        start_s = time.monotonic()
        if len(files) == 1:
            pixels = decode_unchanged(files[0], shape)
            if pixels is not None:
                trace.decode_s = time.monotonic() - start_s
                return pixels[None]
            decoded = [await self._decode_or_error(files[0], shape, deadline.expires_s)]
        else:
            decoded = await asyncio.gather(*(self._decode_or_error(file, shape, deadline.expires_s) for file in files))
        trace.decode_s = time.monotonic() - start_s
        errors |= {index: error for index, error in enumerate(decoded) if isinstance(error, RequestError)}
        images = [pixels for pixels in decoded if not isinstance(pixels, RequestError)]
        if len(images) == 1:
            return images[0]
        return np.concatenate(images) if images else np.zeros((0, *shape), np.uint8)

    async def _decode_or_error(self, content: bytes, shape: InputShape, expires_s: float) -> Images | RequestError:
        try:
            return await self._decoder.decode(content, shape, expires_s)
        except RequestError as error:
            clear_traceback(error)
            return error

    async def _compute(self, version: ModelVersion, images: Images, trace: Trace, deadline: Deadline) -> Probabilities:
        """Compute the pixels of files: from the cache if possible; a request that is alone in the service at once."""
        if len(images) != 1:
            return await self._compute_many(version, images, trace, deadline)
        key = None
        if self._cache is not None:
            key = self._cache.key(version, images)
            if (kept := self._cache.get(key)) is not None:
                trace.from_cache = True
                return kept
        computed = None
        if self._admission.pending <= 1:
            await asyncio.sleep(0)  # afterwards requests of the same tick are counted as well
            if self._admission.pending <= 1:
                computed = self._scheduler.compute_now(version, images)
        if computed is None:
            computed = await self._scheduler.submit(version, images, deadline.expires_s)
        trace.computed = computed
        if self._cache is not None and key is not None:
            self._cache.put(key, computed.probabilities)
        return computed.probabilities

    async def _compute_many(
        self, version: ModelVersion, images: Images, trace: Trace, deadline: Deadline
    ) -> Probabilities:
        """Compute one batch after another, so that other requests' batches run in between."""
        size = self._scheduler.max_batch_size
        if 0 < len(images) <= size:
            trace.computed = await self._scheduler.submit(version, images, deadline.expires_s)
            return trace.computed.probabilities
        parts = [
            await self._scheduler.submit(version, images[start : start + size], deadline.expires_s)
            for start in range(0, len(images), size)
        ]
        if not parts:
            return np.zeros((0, len(version.labels)), np.float32)
        trace.computed = Computed(
            np.concatenate([part.probabilities for part in parts]),
            queue_s=sum(part.queue_s for part in parts),
            compute_s=sum(part.compute_s for part in parts),
            batch_rows=max(part.batch_rows for part in parts),
        )
        return trace.computed.probabilities

    def close(self) -> None:
        """Compute nothing that hasn't started; started work ends by itself."""
        if self._shadow is not None:
            self._shadow.close()
        self._decoder.close()
        self._scheduler.close()


def wrong_shape(given: Sequence[int], shape: InputShape) -> InvalidRequestError:
    """Return the error for pixels of another shape than the version's input."""
    dimensions = ", ".join(map(str, shape))
    return InvalidRequestError(
        f"input '{IMAGES}' has the shape {list(given)}",
        expected=f"one input: '{IMAGES}', UINT8 [n, {dimensions}], RGB 0..255; "
        "or 'image_bytes', BYTES [n], PNG or JPEG files",
    )


def check_rows(rows: int, max_rows: int) -> None:
    """Check the number of images in one request.

    Raises:
        TooLargeError: there are more than `max_rows`.
    """
    if rows > max_rows:
        raise TooLargeError(
            f"{rows:,} images in one request",
            expected=f"at most {max_rows:,}",
            remedy="send them in several requests",
        )
