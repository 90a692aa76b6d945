"""Threads, memory and deadlines of decoding, with images whose decoding a test controls."""

import threading
import time
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

import numpy as np
import pytest

from service.errors import TooLargeError, UnavailableError
from service.images.decoding import DecodeThreads, Pixels
from tests.waiting import PATIENCE_S, ManualClock, wait_until

MIB = 2**20


@dataclass
class FakeImage:
    """An image that is decoded once `finish` is set."""

    decode_bytes: int = 1
    pixels: int = 1000
    error: Exception | None = None
    started: threading.Event = field(default_factory=threading.Event)
    finish: threading.Event = field(default_factory=threading.Event)

    def decode(self) -> Pixels:
        self.started.set()
        assert self.finish.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        return np.zeros((32, 32, 3), np.uint8)


def submit(threads: DecodeThreads, image: FakeImage, *, expires_s: float = 1e9) -> "Future[Pixels]":
    return threads.submit(lambda: image, expected_pixels=image.pixels, expires_s=expires_s)


def started(image: FakeImage) -> bool:
    return image.started.wait(PATIENCE_S)


def test_no_more_memory_is_taken_than_there_is() -> None:
    threads = DecodeThreads(threads=4, max_decode_bytes=100)
    images = [FakeImage(decode_bytes=40) for _ in range(4)]
    futures = [submit(threads, image) for image in images]
    wait_until(lambda: sum(image.started.is_set() for image in images) == 2)
    time.sleep(0.1)
    assert sum(image.started.is_set() for image in images) == 2
    assert threads.used_bytes == 80
    for image in images:
        image.finish.set()
    assert all(future.result(PATIENCE_S).shape == (32, 32, 3) for future in futures)
    wait_until(lambda: threads.used_bytes == 0)


def test_image_that_takes_more_than_all_memory_is_too_large() -> None:
    threads = DecodeThreads(threads=1, max_decode_bytes=100)
    with pytest.raises(TooLargeError, match=r"101 bytes of memory.*at most 100 bytes"):
        submit(threads, FakeImage(decode_bytes=101)).result(PATIENCE_S)
    assert threads.used_bytes == 0


def test_bodies_leave_less_memory() -> None:
    held_bytes = [1000 * MIB]
    threads = DecodeThreads(threads=1, max_decode_bytes=100 * MIB, held_bytes=lambda: held_bytes[0])
    image = FakeImage(decode_bytes=MIB)
    future = submit(threads, image)
    time.sleep(0.05)
    assert not image.started.is_set()
    held_bytes[0] = 0
    image.finish.set()
    assert future.result(PATIENCE_S).any() == 0


def test_memory_comes_back_from_an_image_that_is_damaged() -> None:
    threads = DecodeThreads(threads=1, max_decode_bytes=100)
    image = FakeImage(decode_bytes=100, error=ValueError("damaged"))
    image.finish.set()
    for _ in range(3):
        with pytest.raises(ValueError, match="damaged"):
            submit(threads, image).result(PATIENCE_S)
    wait_until(lambda: threads.used_bytes == 0)


def test_file_that_can_not_be_read_fails_alone() -> None:
    threads = DecodeThreads(threads=1, max_decode_bytes=100)

    def read() -> FakeImage:
        raise TooLargeError("many parts")

    with pytest.raises(TooLargeError, match="many parts"):
        threads.submit(read, expected_pixels=1, expires_s=1e9).result(PATIENCE_S)
    image = FakeImage()
    image.finish.set()
    assert submit(threads, image).result(PATIENCE_S) is not None


def test_work_whose_deadline_has_passed_is_never_started() -> None:
    clock = ManualClock()
    threads = DecodeThreads(threads=1, max_decode_bytes=100, clock=clock)
    first, late = FakeImage(), FakeImage()
    running = submit(threads, first)
    assert started(first)
    waiting = submit(threads, late, expires_s=clock.now_s + 1)
    clock.now_s += 2
    first.finish.set()
    assert running.result(PATIENCE_S) is not None
    with pytest.raises(TimeoutError):
        waiting.result(PATIENCE_S)
    assert not late.started.is_set()


def test_work_that_was_cancelled_is_never_started() -> None:
    threads = DecodeThreads(threads=1, max_decode_bytes=100)
    first, other, last = FakeImage(), FakeImage(), FakeImage()
    submit(threads, first)
    assert started(first)
    waiting = submit(threads, other)
    assert waiting.cancel()
    future = submit(threads, last)
    first.finish.set()
    last.finish.set()
    assert future.result(PATIENCE_S) is not None
    assert not other.started.is_set()


def test_lost_threads_are_replaced_up_to_a_bound_then_work_is_rejected() -> None:
    clock = ManualClock()
    threads = DecodeThreads(threads=2, max_decode_bytes=100, clock=clock, overdue_after_s=10)
    stuck = [FakeImage() for _ in range(4)]
    for image in stuck:
        submit(threads, image, expires_s=clock.now_s + 1)
        assert started(image)
        clock.now_s += 20
    assert threads.overdue == 4
    assert threads.is_exhausted
    with pytest.raises(UnavailableError, match="all 4 decoder threads are stuck") as rejected:
        submit(threads, FakeImage(), expires_s=clock.now_s + 1000)
    assert rejected.value.retry_after_s >= 1
    stuck[0].finish.set()
    wait_until(lambda: threads.overdue == 3)
    image = FakeImage()
    image.finish.set()
    assert submit(threads, image, expires_s=clock.now_s + 1000).result(PATIENCE_S) is not None
    for other in stuck:
        other.finish.set()
    wait_until(lambda: threads.overdue == 0)
    assert not threads.is_exhausted


def test_thread_is_replaced_for_work_that_waits_already() -> None:
    clock = ManualClock()
    threads = DecodeThreads(threads=1, max_decode_bytes=100, clock=clock, overdue_after_s=10)
    stuck, waiting = FakeImage(), FakeImage()
    submit(threads, stuck, expires_s=clock.now_s + 1)
    assert started(stuck)
    future = submit(threads, waiting, expires_s=clock.now_s + 1000)
    clock.now_s += 20
    threads.replace_overdue()
    waiting.finish.set()
    assert future.result(PATIENCE_S) is not None
    stuck.finish.set()


def test_a_thread_that_is_late_by_little_is_not_given_up() -> None:
    clock = ManualClock()
    threads = DecodeThreads(threads=1, max_decode_bytes=100, clock=clock, overdue_after_s=10)
    image = FakeImage()
    submit(threads, image, expires_s=clock.now_s + 0.001)
    assert started(image)
    clock.now_s += 9
    assert threads.overdue == 0
    image.finish.set()


def test_work_that_can_not_be_ready_in_time_is_rejected_before_it_starts() -> None:
    clock = ManualClock()
    threads = DecodeThreads(threads=1, max_decode_bytes=100, clock=clock)
    first, second, third = FakeImage(), FakeImage(), FakeImage()
    done = submit(threads, first)
    assert started(first)
    clock.now_s += 4  # a thousand pixels take four seconds
    first.finish.set()
    assert done.result(PATIENCE_S) is not None
    wait_until(lambda: threads.used_bytes == 0)
    submit(threads, second)
    assert started(second)
    submit(threads, third)
    with pytest.raises(UnavailableError, match="1 images are queued for decoding") as rejected:
        submit(threads, FakeImage(), expires_s=clock.now_s + 3)
    assert rejected.value.retry_after_s == 4
    accepted = submit(threads, third, expires_s=clock.now_s + 5)
    second.finish.set()
    third.finish.set()
    assert accepted.result(PATIENCE_S) is not None


def test_closing_lets_go_of_what_waits() -> None:
    threads = DecodeThreads(threads=1, max_decode_bytes=100)
    first, other = FakeImage(), FakeImage()
    submit(threads, first)
    assert started(first)
    waiting = submit(threads, other)
    threads.close()
    with pytest.raises(CancelledError):
        waiting.result(PATIENCE_S)
    first.finish.set()
    assert not other.started.is_set()


def test_system_without_another_thread_rejects(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(UnavailableError, match="no thread is available"):
        submit(DecodeThreads(threads=1, max_decode_bytes=100), FakeImage())
