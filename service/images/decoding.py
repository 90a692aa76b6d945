"""Decoding of images: a small one on the event loop, a large one in a thread; `service.images.encoded` does the work.

The threads are bounded in number and memory. A decoder in C can't be interrupted, so a thread that takes far longer
than any image should is abandoned: another replaces it, up to a bound, and it ends when its decoder returns. Work whose
deadline has passed is never started.
"""

import asyncio
import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.metadata import InputShape
from cifar10_serving.runtimes.base import Images
from cifar10_serving.runtimes.machine import usable_cores
from service.errors import RequestError, TooLargeError, UnavailableError, clear_traceback, retry_after_s
from service.images.encoded import EncodedImage
from service.images.fast_decode import decode_unchanged

THREAD_NAME_PREFIX: Final = "decode"
OVERDUE_AFTER_S: Final = 10.0
"""A thread that decodes for longer than this, and past its request's deadline, is abandoned."""
FREE_HELD_BYTES: Final = 20 * 2**20
HELD_COPIES: Final = 2
"""Number of copies of a body in memory: the body itself, and the files cut out of it."""
LOOK_AGAIN_S: Final = 0.1
DECAY: Final = 0.9
RETRY_WHILE_OVERDUE_S: Final = 5

IN_PLACE_BYTES: Final = 16 * 1024
IN_PLACE_PIXELS: Final = 128 * 128
"""Decoding such a small image takes less time than handing it to a thread. Both limits apply: a long file can be slow
to decode despite few pixels, and decoding on the event loop blocks it."""
PIXELS_PER_BYTE: Final = 8
"""Typical ratio of a JPEG photo, to estimate the size of an image before it is read."""
DEFAULT_MAX_DECODE_BYTES: Final = 512 * 2**20

Pixels = NDArray[np.uint8]


class Decodable(Protocol):
    """An image whose structure has been read."""

    @property
    def pixels(self) -> int:
        """Width times height."""

    @property
    def decode_bytes(self) -> int:
        """The maximum memory that `decode` uses."""

    def decode(self) -> Pixels:
        """Return the pixels (height, width, 3) uint8 RGB 0..255."""


@dataclass(eq=False, slots=True)
class _Job:
    """One image. `read` is called once and returns `image`; `held_bytes` is the memory reserved for it."""

    read: Callable[[], Decodable]
    expected_pixels: int
    expires_s: float
    future: "Future[Pixels]" = field(default_factory=Future)
    image: Decodable | None = None
    start_s: float = 0.0
    held_bytes: int = 0

    def fail(self, error: BaseException) -> None:
        """Raise the error in the caller, if it is still waiting."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class DecodeThreads:
    """Decodes images in threads that are started on demand.

    Args:
        threads: number of threads; as many again may be abandoned and replaced.
        max_decode_bytes: memory limit for all images that are decoded at the same time.
        held_bytes: returns the size of the bodies of all requests; the part above `FREE_HELD_BYTES` reduces the limit.
        clock: returns seconds.
        overdue_after_s: time after which a thread past its deadline is abandoned.
    """

    def __init__(
        self,
        *,
        threads: int,
        max_decode_bytes: int,
        held_bytes: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
        overdue_after_s: float = OVERDUE_AFTER_S,
    ) -> None:
        self._threads = threads
        self._max_threads = 2 * threads
        self._max_decode_bytes = max_decode_bytes
        self._held_bytes = held_bytes
        self._clock = clock
        self._overdue_after_s = overdue_after_s
        self._names = itertools.count()
        self._changed = threading.Condition()
        self._unread: deque[_Job] = deque()
        self._read: deque[_Job] = deque()
        """Jobs that wait for memory for their pixels."""
        self._running: set[_Job] = set()
        self._used_bytes = 0
        self._alive = 0
        self._idle = 0
        self._decoded_s = 0.0
        self._decoded_pixels = 0.0
        self._is_closed = False

    @property
    def used_bytes(self) -> int:
        """Memory reserved for images that are being decoded."""
        return self._used_bytes

    @property
    def waiting(self) -> int:
        """Number of images that wait for a thread or for memory."""
        return len(self._unread) + len(self._read)

    @property
    def overdue(self) -> int:
        """Number of abandoned threads that have not returned."""
        with self._changed:
            return self._overdue()

    @property
    def overdue_after_s(self) -> float:
        """Time after which a thread past its deadline is abandoned."""
        return self._overdue_after_s

    @property
    def is_exhausted(self) -> bool:
        """True if all threads are lost."""
        return self.overdue >= self._max_threads

    def submit(self, read: Callable[[], Decodable], *, expected_pixels: int, expires_s: float) -> "Future[Pixels]":
        """Return the future pixels (height, width, 3) of an image.

        Args:
            read: returns the image; called in a thread.
            expected_pixels: approximate size of the image.
            expires_s: the deadline in the clock's time; work that has not started by then fails with a `TimeoutError`.

        Raises:
            UnavailableError: it can't be decoded in time, or no thread is left.
        """
        job = _Job(read, expected_pixels, expires_s)
        with self._changed:
            if self._unread or self._read or self._running:  # otherwise there is room
                self._drop_expired()
                self._check_room(expires_s)
            self._unread.append(job)
            if self._idle < self.waiting:
                self._start_threads()
            self._changed.notify()
        return job.future

    def replace_overdue(self) -> None:
        """Start replacements for abandoned threads, up to the limit."""
        with self._changed:
            self._drop_expired()
            self._start_threads()

    def close(self) -> None:
        """Decode nothing that hasn't started; started work ends by itself."""
        with self._changed:
            self._is_closed = True
            for job in (*self._unread, *self._read):
                job.future.cancel()
                job.future.set_running_or_notify_cancel()
            self._unread.clear()
            self._read.clear()
            self._changed.notify_all()

    def _check_room(self, expires_s: float) -> None:
        overdue = self._overdue()
        if overdue >= self._max_threads:
            raise UnavailableError(
                f"all {overdue} decoder threads are stuck on images that take too long",
                retry_after_s=RETRY_WHILE_OVERDUE_S,
            )
        pixels = sum(job.expected_pixels for job in (*self._unread, *self._read))
        seconds_per_pixel = self._decoded_s / max(1.0, self._decoded_pixels)
        wait_s = pixels * seconds_per_pixel / min(self._threads, self._max_threads - overdue)
        if wait_s > expires_s - self._clock():
            raise UnavailableError(
                f"{self.waiting:,} images are queued for decoding, for longer than this request's deadline",
                retry_after_s=retry_after_s(1, wait_s),
            )

    def _overdue(self) -> int:
        now_s = self._clock()
        return sum(now_s > max(job.expires_s, job.start_s + self._overdue_after_s) for job in self._running)

    def _drop_expired(self) -> None:
        """Drop work that was cancelled or whose deadline has passed, before it starts."""
        now_s = self._clock()
        for jobs in (self._unread, self._read):
            if all(job.expires_s > now_s and not job.future.cancelled() for job in jobs):
                continue
            kept = [job for job in jobs if job.expires_s > now_s and not job.future.cancelled()]
            dropped = set(jobs).difference(kept)
            jobs.clear()
            jobs.extend(kept)
            for job in dropped:
                job.fail(TimeoutError())

    def _start_threads(self) -> None:
        wanted = min(self._threads + self._overdue(), self._max_threads)
        for _ in range(min(wanted - self._alive, self.waiting - self._idle)):
            name = f"{THREAD_NAME_PREFIX}_{next(self._names)}"
            try:
                threading.Thread(target=self._work, name=name, daemon=True).start()
            except RuntimeError:
                if self._alive:
                    return
                self._unread.pop()
                raise UnavailableError(
                    "no thread is available to decode the image", retry_after_s=RETRY_WHILE_OVERDUE_S
                ) from None
            self._alive += 1

    def _work(self) -> None:
        while (job := self._next()) is not None:
            self._run(job)
            del job  # free its memory before waiting

    def _next(self) -> _Job | None:
        """Return the next job, waiting for one; None if this thread should end."""
        with self._changed:
            while True:
                is_surplus = self._alive > self._threads and self._alive - self._overdue() > self._threads
                if self._is_closed or is_surplus:
                    self._alive -= 1
                    return None
                self._drop_expired()
                job = self._startable()
                if job is not None:
                    job.start_s = self._clock()
                    self._running.add(job)
                    return job
                self._idle += 1
                # Nothing notifies this thread when bodies are freed.
                self._changed.wait(LOOK_AGAIN_S if self._read else None)
                self._idle -= 1

    def _startable(self) -> _Job | None:
        if self._read and self._take_memory(self._read[0]):
            return self._read.popleft()
        # A read image holds a copy of its file, so only as many are read as can soon be decoded.
        return self._unread.popleft() if self._unread and len(self._read) < self._threads else None

    def _take_memory(self, job: _Job) -> bool:
        free_bytes = (
            self._max_decode_bytes - self._used_bytes - HELD_COPIES * max(0, self._held_bytes() - FREE_HELD_BYTES)
        )
        if job.image is None or job.image.decode_bytes > free_bytes:
            return False
        job.held_bytes = job.image.decode_bytes
        self._used_bytes += job.held_bytes
        return True

    def _run(self, job: _Job) -> None:
        try:
            if job.image is None:
                job.image = job.read()
                job.expected_pixels = job.image.pixels
                if not self._may_go_on(job, job.image):
                    return
            if job.future.set_running_or_notify_cancel():
                self._decode(job, job.image)
        except BaseException as error:  # noqa: BLE001  # whatever reading raises belongs to its request
            if isinstance(error, RequestError):
                clear_traceback(error)
            job.fail(error)
        finally:
            self._let_go(job)

    def _may_go_on(self, job: _Job, image: Decodable) -> bool:
        """Reserve memory; if there is none, leave the job to another thread."""
        if image.decode_bytes > self._max_decode_bytes:
            raise TooLargeError(
                f"decoding the image takes up to {image.decode_bytes:,} bytes of memory",
                expected=f"at most {self._max_decode_bytes:,} bytes",
                remedy="send a smaller image, or a JPEG: the models scale images down",
            )
        with self._changed:
            if not self._read and self._take_memory(job):
                return True
            self._running.discard(job)
            self._read.append(job)
        return False

    def _decode(self, job: _Job, image: Decodable) -> None:
        try:
            pixels = image.decode()
        except BaseException as error:  # noqa: BLE001  # whatever a decoder raises belongs to its request
            if isinstance(error, RequestError):
                clear_traceback(error)
            job.future.set_exception(error)
        else:
            job.future.set_result(pixels)

    def _let_go(self, job: _Job) -> None:
        with self._changed:
            if job in self._running:
                self._running.discard(job)
                if job.held_bytes:
                    self._used_bytes -= job.held_bytes
                    self._decoded_s = DECAY * self._decoded_s + self._clock() - job.start_s
                    self._decoded_pixels = DECAY * self._decoded_pixels + job.expected_pixels
            self._changed.notify_all()


class Slots(Protocol):
    """The slots of requests, as `service.inference.admission.Admission` has them."""

    @property
    def pending_bytes(self) -> int:
        """Number of bytes in the bodies of all requests."""
        ...

    def stay(self) -> None:
        """Take a slot for work that outlives its request; `leave` frees it."""

    def leave(self) -> None:
        """Free a slot."""


class Decoder:
    """Decodes uploaded files.

    Args:
        slots: keep the slot of work that outlives its request.
        max_image_pixels: maximum width times height of an image.
        max_decode_bytes: memory limit for all images that are decoded at the same time.
        threads: the threads to use; None for new ones.
    """

    def __init__(
        self,
        slots: Slots,
        *,
        max_image_pixels: int,
        max_decode_bytes: int = DEFAULT_MAX_DECODE_BYTES,
        threads: DecodeThreads | None = None,
    ) -> None:
        self._slots = slots
        self._max_image_pixels = max_image_pixels
        self._threads = threads or DecodeThreads(
            threads=usable_cores(), max_decode_bytes=max_decode_bytes, held_bytes=lambda: slots.pending_bytes
        )

    @property
    def threads(self) -> DecodeThreads:
        """The threads in which large images are decoded."""
        return self._threads

    async def decode(self, content: bytes, shape: InputShape, expires_s: float) -> Images:
        """Return the pixels (1, height, width, 3) uint8 RGB 0..255 of an encoded image.

        Args:
            content: a file in one of `service.images.encoded.READABLE_FORMATS`.
            shape: height, width and channels of the result.
            expires_s: the deadline in `time.monotonic`'s time.

        Raises:
            TimeoutError: the deadline has passed; a thread that is still decoding keeps its slot until it is done.
            RequestError: see `service.images.encoded`; an `UnavailableError` if it can't be decoded in time.
        """
        found = decode_small(content, shape, max_pixels=self._max_image_pixels)
        if isinstance(found, np.ndarray):
            return found[None]
        work = self._threads.submit(found.read, expected_pixels=found.expected_pixels, expires_s=expires_s)
        try:
            pixels = await _within(work, expires_s)
        except (TimeoutError, asyncio.CancelledError):
            work.cancel()
            self._give_up(work, expires_s)
            raise
        return pixels[None]

    def close(self) -> None:
        """Decode nothing that hasn't started; started work ends by itself."""
        self._threads.close()

    def _give_up(self, work: "Future[Pixels]", expires_s: float) -> None:
        """Let unfinished work keep its slot until it is done, and replace its thread if it never is."""
        if work.done():
            return
        loop = asyncio.get_running_loop()
        self._slots.stay()
        overdue_s = max(0.0, expires_s - time.monotonic()) + self._threads.overdue_after_s
        timer = loop.call_later(overdue_s, self._threads.replace_overdue)

        def leave() -> None:
            timer.cancel()
            self._slots.leave()

        def done(_: "Future[Pixels]") -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: slots no longer matter
                loop.call_soon_threadsafe(leave)

        work.add_done_callback(done)


@dataclass(frozen=True, slots=True)
class LargeImage:
    """An image to decode in a thread; `read` returns its structure, and `expected_pixels` is its approximate size."""

    read: Callable[[], EncodedImage]
    expected_pixels: int


def decode_small(content: bytes, shape: InputShape, *, max_pixels: int) -> Pixels | LargeImage:
    """Return the pixels (height, width, 3) uint8 RGB 0..255 of a small image; others are not decoded.

    Raises:
        RequestError: see `service.images.encoded`.
    """
    if len(content) > IN_PLACE_BYTES or shape[0] * shape[1] > IN_PLACE_PIXELS:
        return LargeImage(partial(EncodedImage, content, shape, max_pixels=max_pixels), PIXELS_PER_BYTE * len(content))
    pixels = decode_unchanged(content, shape)
    if pixels is not None:
        return pixels
    image = EncodedImage(content, shape, max_pixels=max_pixels)
    if image.pixels <= IN_PLACE_PIXELS and not image.is_slow:
        return image.decode()
    return LargeImage(partial(_given, image), image.pixels)


def _given(image: EncodedImage) -> EncodedImage:
    return image


async def _within(work: "Future[Pixels]", expires_s: float) -> Pixels:
    """Return the pixels that a thread computes. Unlike `asyncio.wait_for`, this works without a task.

    Raises:
        TimeoutError: the deadline has passed.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Pixels] = loop.create_future()
    timer = loop.call_later(max(0.0, expires_s - time.monotonic()), _expire, answer)
    work.add_done_callback(partial(_settle_soon, loop, answer))
    try:
        return await answer
    finally:
        timer.cancel()
        # The error's traceback refers to this frame: a reference here would keep both, and the image, alive.
        del answer


def _expire(answer: "asyncio.Future[Pixels]") -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


def _settle_soon(loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[Pixels]", work: "Future[Pixels]") -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is waiting
        loop.call_soon_threadsafe(_settle, answer, work)


def _settle(answer: "asyncio.Future[Pixels]", work: "Future[Pixels]") -> None:
    if answer.done():
        return
    if work.cancelled():
        answer.cancel()
    elif (error := work.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(work.result())
