"""The shortest way through the data plane: one small image, decoded in place, answered by a call instead of a task.

Takes only what needs neither a thread for decoding nor a cache; whatever else there is goes `service.core.inference`'s
way, which this one is held to: same slots, leases, queues, deadlines.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from runtime.base import Images
from service.core.admission import Admission, Slot
from service.core.batch_queue import Computed
from service.core.decoding import IN_PLACE_BYTES
from service.core.inference import deadline_passed
from service.core.model_version import ModelVersion
from service.core.observation import Observation
from service.core.repository import ModelRepository
from service.core.scheduler import Scheduler
from service.core.shadow import Shadow
from service.unchanged_images import decode_unchanged


@dataclass(slots=True)
class DirectRequest:
    """One image on its way.

    Args:
        observation: what is learned on the way is noted in it.
        timeout_s: longest time from now to the answer.
        body_bytes: of the body that it came in.
        ended: called once on the event loop with the version and its answer, or with why there is none; a
            `CancelledError` where the future that `waits` was given was cancelled.
        waits: called with the future that the request waits for, if it has to.
    """

    observation: Observation
    timeout_s: float
    body_bytes: int
    ended: Callable[[ModelVersion, Computed | BaseException], None]
    waits: Callable[["asyncio.Future[Computed]"], None]


@dataclass(slots=True)
class _Taken:
    """A request that was taken: its slot, the version that it holds, its image (1, 32, 32, 3), until when."""

    request: DirectRequest
    slot: Slot
    chosen: ModelVersion
    images: Images
    expires_s: float


class DirectInference:
    """Answers single images; used from one thread, the event loop's.

    Args:
        repository: the versions that may answer.
        admission: the slots for requests.
        scheduler: turns pixels into probabilities.
        shadow: compares answers on the side.
    """

    def __init__(
        self, repository: ModelRepository, admission: Admission, scheduler: Scheduler, shadow: Shadow | None
    ) -> None:
        self._repository = repository
        self._admission = admission
        self._scheduler = scheduler
        self._shadow = shadow

    def start(
        self, content: bytes, request: DirectRequest, *, model: str | None = None, version: int | str | None = None
    ) -> bool:
        """Whether the image is taken: then `request.ended` is called, later. Otherwise nothing has happened.

        Args:
            content: a file in one of `service.images.READABLE_FORMATS`.
            request: whose image it is.
            model: None for the default model.
            version: a number or a label; None for the one that answers where none is asked for.

        Raises:
            RequestError: there is no such version or no room; nothing has happened then, either.
        """
        if len(content) > IN_PLACE_BYTES:
            return False
        request.observation.request_model(model, version)
        start_s = time.monotonic()
        pixels = decode_unchanged(content)
        if pixels is None:
            return False
        request.observation.decode_s = time.monotonic() - start_s
        slot = self._admission.slot()
        slot.enter()
        try:
            slot.hold_bytes(request.body_bytes)
            chosen = self._repository.acquire(model, version)
        except BaseException:
            slot.leave()
            raise
        taken = _Taken(request, slot, chosen, pixels[None], start_s + request.timeout_s)
        request.observation.model, request.observation.version = chosen.name, chosen.version
        if self._admission.pending <= 1:
            # Whether it is alone is known when those were counted that come in the same turn of the event loop.
            asyncio.get_running_loop().call_soon(self._compute, taken)
        else:
            self._submit(taken)
        return True

    def _compute(self, taken: _Taken) -> None:
        try:
            computed = self._scheduler.compute_now(taken.chosen, taken.images) if self._admission.pending <= 1 else None
        except Exception as error:  # noqa: BLE001  # whatever the runtime raises belongs to this request alone
            self._end(taken, error)
            return
        if computed is None:
            self._submit(taken)
        else:
            self._end(taken, computed)

    def _submit(self, taken: _Taken) -> None:
        try:
            answer = self._scheduler.submit(taken.chosen, taken.images, taken.expires_s)
        except Exception as error:  # noqa: BLE001  # there is no room, or no thread to be had
            self._end(taken, error)
            return
        answer.add_done_callback(lambda done: self._end(taken, _outcome(done, taken.request.timeout_s)))
        taken.request.waits(answer)

    def _end(self, taken: _Taken, outcome: Computed | BaseException) -> None:
        taken.chosen.release()
        taken.slot.leave()
        if isinstance(outcome, Computed):
            taken.request.observation.computed = outcome
            if self._shadow is not None:
                self._shadow.offer(taken.chosen, taken.images[0], outcome.probabilities[0])
        taken.request.ended(taken.chosen, outcome)


def _outcome(answer: "asyncio.Future[Computed]", timeout_s: float) -> Computed | BaseException:
    if answer.cancelled():
        return asyncio.CancelledError()
    error = answer.exception()
    if isinstance(error, TimeoutError):
        return deadline_passed(timeout_s)
    return error if error is not None else answer.result()
