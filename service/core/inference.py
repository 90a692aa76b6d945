"""Images in, probabilities out: decode, queue, compute, name the classes; the way that every protocol goes.

Which version answers is `repository`'s part, how many requests may be inside is `admission`'s, who computes when is
`scheduler`'s, HTTP is `service.api`'s.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from catalog.labels import CLASS_NAMES
from catalog.responses import Prediction
from runtime.base import Images, Probabilities
from service.core.admission import Admission, Slot
from service.core.batch_queue import Computed
from service.core.decoding import Decoder
from service.core.observation import Observation
from service.core.prediction_cache import PredictionCache
from service.core.repository import ModelRepository, ModelVersion
from service.core.scheduler import Scheduler
from service.core.shadow import Shadow
from service.errors import DeadlineError, RequestError, TooLargeError, forget_frames

DEFAULT_MAX_REQUEST_ROWS: Final = 512


@dataclass(frozen=True, slots=True)
class Inferred:
    """A version's answer for several images: probabilities (rows, 10) float32."""

    chosen: ModelVersion
    probabilities: Probabilities


@dataclass(frozen=True, slots=True)
class InferredFiles:
    """A version's answer for several files: for each its probabilities (10,) float32, or why there are none."""

    chosen: ModelVersion
    results: list[NDArray[np.float32] | RequestError]

    def all_or_error(self) -> Inferred:
        """The same, for protocols that know one answer for all files of a request.

        Raises:
            RequestError: of the first file that has no probabilities.
        """
        rows: list[NDArray[np.float32]] = []
        for index, result in enumerate(self.results):
            if isinstance(result, RequestError):
                result.problem = f"image {index}: {result.problem}"
                raise result
            rows.append(result)
        return Inferred(self.chosen, np.stack(rows) if rows else np.zeros((0, len(CLASS_NAMES)), np.float32))


class Inference:
    """The data plane: protocols take a `slot`, read the request, and call `predict`, `infer` or `infer_files`.

    Args:
        repository: the versions that may answer.
        admission: the slots for requests.
        decoder: turns files into pixels.
        scheduler: turns pixels into probabilities.
        cache: remembers answers; None computes each.
        shadow: compares answers on the side.
        max_request_rows: most images in one request.
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
        max_request_rows: int = DEFAULT_MAX_REQUEST_ROWS,
    ) -> None:
        self._repository = repository
        self._admission = admission
        self._decoder = decoder
        self._scheduler = scheduler
        self._cache = cache
        self._shadow = shadow
        self._max_request_rows = max_request_rows

    @property
    def max_request_rows(self) -> int:
        """Most images in one request."""
        return self._max_request_rows

    def slot(self) -> Slot:
        """A place for one request, from before its body is read to its answer.

        Raises:
            UnavailableError: on entering, where there is none free.
        """
        return self._admission.slot()

    async def predict(
        self,
        content: bytes,
        observation: Observation,
        *,
        model: str | None = None,
        version: int | str | None = None,
        timeout_s: float,
    ) -> Inferred:
        """The probabilities (1, 10) of an encoded image; called within a `slot`.

        Args:
            content: a file in one of `service.images.READABLE_FORMATS`.
            observation: of the request; what is learned on the way is noted in it.
            model: None for the default model.
            version: a number or a label; None for the one that answers where none is asked for.
            timeout_s: longest time from now to the answer.

        Raises:
            RequestError: see the tree in `service.errors`.
        """
        start_s = time.monotonic()
        expires_s = start_s + timeout_s
        observation.request_model(model, version)
        with self._repository.lease(model, version) as chosen:
            observation.model, observation.version = chosen.name, chosen.version
            try:
                images = await self._decoder.decode(content, expires_s)
                observation.decode_s = time.monotonic() - start_s
                if self._cache is None:
                    probabilities = await self._compute(chosen, images, expires_s, observation)
                else:
                    probabilities = await self._remember(self._cache, chosen, images, expires_s, observation)
            except TimeoutError:
                raise deadline_passed(timeout_s) from None
            if self._shadow is not None:
                self._shadow.offer(chosen, images[0], probabilities[0])
            return Inferred(chosen, probabilities)

    async def decode(self, content: bytes, observation: Observation, *, timeout_s: float) -> Images:
        """The pixels (1, 32, 32, 3) uint8 RGB 0..255 of an encoded image; called within a `slot`.

        Args:
            content: a file in one of `service.images.READABLE_FORMATS`.
            observation: of the request.
            timeout_s: longest time from now.

        Raises:
            RequestError: it can't be decoded, or not in time.
        """
        start_s = time.monotonic()
        try:
            images = await self._decoder.decode(content, start_s + timeout_s)
        except TimeoutError:
            raise deadline_passed(timeout_s) from None
        observation.decode_s = time.monotonic() - start_s
        return images

    async def infer(
        self,
        images: Images,
        observation: Observation,
        *,
        model: str | None = None,
        version: int | str | None = None,
        timeout_s: float,
        shadowed: bool = True,
    ) -> Inferred:
        """The probabilities of images that are pixels already; called within a `slot`. More than a batch is shared out.

        Args:
            images: (rows, 32, 32, 3) uint8 RGB 0..255; no rows are answered with none.
            observation: of the request.
            model: None for the default model.
            version: a number or a label; None for the one that answers where none is asked for.
            timeout_s: longest time from now to the answer.
            shadowed: whether a shadow may see them; pictures that nobody sent would bend what it is compared on.

        Raises:
            RequestError: see the tree in `service.errors`.
        """
        check_rows(len(images), self._max_request_rows)
        expires_s = time.monotonic() + timeout_s
        observation.request_model(model, version)
        with self._repository.lease(model, version) as chosen:
            observation.model, observation.version = chosen.name, chosen.version
            try:
                probabilities = await self._compute_rows(chosen, images, expires_s, observation, shadowed=shadowed)
                return Inferred(chosen, probabilities)
            except TimeoutError:
                raise deadline_passed(timeout_s) from None

    async def infer_files(
        self,
        contents: Sequence[bytes],
        observation: Observation,
        *,
        model: str | None = None,
        version: int | str | None = None,
        timeout_s: float,
    ) -> InferredFiles:
        """The probabilities of several encoded images; one that can't be decoded spoils only its own entry.

        Args:
            contents: files in one of `service.images.READABLE_FORMATS`; otherwise as `infer`.

        Raises:
            RequestError: no image of the request can be answered; see the tree in `service.errors`.
        """
        check_rows(len(contents), self._max_request_rows)
        start_s = time.monotonic()
        expires_s = start_s + timeout_s
        observation.request_model(model, version)
        with self._repository.lease(model, version) as chosen:
            observation.model, observation.version = chosen.name, chosen.version
            try:
                decoded = await asyncio.gather(*(self._decode_or_error(content, expires_s) for content in contents))
                observation.decode_s = time.monotonic() - start_s
                images = [result for result in decoded if not isinstance(result, RequestError)]
                rows = np.concatenate(images) if images else np.zeros((0, 32, 32, 3), np.uint8)
                probabilities = iter(await self._compute_rows(chosen, rows, expires_s, observation))
            except TimeoutError:
                raise deadline_passed(timeout_s) from None
        results = [result if isinstance(result, RequestError) else next(probabilities) for result in decoded]
        return InferredFiles(chosen, results)

    async def _decode_or_error(self, content: bytes, expires_s: float) -> Images | RequestError:
        try:
            return await self._decoder.decode(content, expires_s)
        except RequestError as error:
            forget_frames(error)
            return error

    async def _compute_rows(
        self, chosen: ModelVersion, images: Images, expires_s: float, observation: Observation, *, shadowed: bool = True
    ) -> Probabilities:
        """Compute a batch after the other, so that other requests have their turns in between."""
        size = self._scheduler.max_batch_rows
        parts = [
            await self._scheduler.submit(chosen, images[start : start + size], expires_s)
            for start in range(0, len(images), size)
        ]
        if not parts:
            return np.zeros((0, len(CLASS_NAMES)), np.float32)
        probabilities = parts[0].probabilities if len(parts) == 1 else np.concatenate([p.probabilities for p in parts])
        observation.computed = Computed(
            probabilities,
            queue_s=sum(part.queue_s for part in parts),
            compute_s=sum(part.compute_s for part in parts),
            batch_rows=max(part.batch_rows for part in parts),
        )
        if shadowed and self._shadow is not None and self._shadow.watches(chosen):
            for pixels, row in zip(images, probabilities, strict=True):
                self._shadow.offer(chosen, pixels, row)
        return probabilities

    async def _compute(
        self, chosen: ModelVersion, images: Images, expires_s: float, observation: Observation
    ) -> Probabilities:
        computed = self._scheduler.compute_now(chosen, images) if await self._is_alone() else None
        if computed is None:
            computed = await self._scheduler.submit(chosen, images, expires_s)
        observation.computed = computed
        return computed.probabilities

    async def _is_alone(self) -> bool:
        """Whether no other request is in the service, those counted that came in the same turn of the event loop."""
        if self._admission.pending <= 1:
            await asyncio.sleep(0)
        return self._admission.pending <= 1

    async def _remember(
        self, cache: PredictionCache, chosen: ModelVersion, images: Images, expires_s: float, observation: Observation
    ) -> Probabilities:
        key = cache.key(chosen, images)
        kept = cache.get(key)
        if kept is not None:
            observation.from_cache = True
            return kept
        probabilities = await self._compute(chosen, images, expires_s, observation)
        cache.put(key, probabilities)
        return probabilities

    def close(self) -> None:
        """Compute nothing that hasn't started; what has is left to end by itself."""
        if self._shadow is not None:
            self._shadow.close()
        self._decoder.close()
        self._scheduler.close()


def check_rows(rows: int, max_rows: int) -> None:
    """Whether one request may have so many images.

    Raises:
        TooLargeError: it may not.
    """
    if rows > max_rows:
        raise TooLargeError(
            f"{rows:,} images in one request",
            expected=f"at most {max_rows:,}",
            remedy="send them in several requests",
        )


def deadline_passed(timeout_s: float) -> DeadlineError:
    """The error of a request that took longer."""
    return DeadlineError(f"no answer within {timeout_s:.3g} s", remedy="send less at once, or try again later")


def name_classes(chosen: ModelVersion, probabilities: NDArray[np.float32], top_k: int) -> Prediction:
    """The answer for one image from its probabilities (10,) float32; ties go to the lower class number."""
    values: list[float] = [min(1.0, max(0.0, value)) for value in probabilities.tolist()]
    best = sorted(range(len(values)), key=values.__getitem__, reverse=True)[:top_k]
    top: list[dict[str, Any]] = [
        {"label": CLASS_NAMES[index], "class_id": index, "probability": values[index]} for index in best
    ]
    return Prediction.model_validate(
        {
            "model": chosen.name,
            "version": chosen.version,
            "label": top[0]["label"],
            "class_id": best[0],
            "confidence": values[best[0]],
            "top": top,
        }
    )
