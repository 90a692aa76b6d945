from contextlib import ExitStack

import pytest

from service.errors import UnavailableError
from service.inference.admission import Admission
from tests.waiting import ManualClock


def test_one_more_than_the_slots_is_turned_away_until_one_leaves() -> None:
    admission = Admission(2, 100)
    with admission.slot():
        with admission.slot():
            with pytest.raises(UnavailableError, match="2 requests are being received") as caught, admission.slot():
                pass
            assert caught.value.retry_after_s >= 1
            assert admission.pending == 2
        with admission.slot():
            assert admission.pending == 2
    assert admission.pending == 0


def test_work_that_outlives_its_request_keeps_a_slot() -> None:
    admission = Admission(1, 100)
    with admission.slot():
        admission.stay()
    with pytest.raises(UnavailableError), admission.slot():
        pass
    admission.leave()
    with admission.slot():
        assert admission.pending == 1


def test_retry_after_follows_the_rate_of_answers() -> None:
    clock = ManualClock()
    admission = Admission(10, 100, clock)
    with ExitStack() as first_nine:
        for _ in range(9):
            first_nine.enter_context(admission.slot())
        for _ in range(100):
            with admission.slot():
                clock.now_s += 0.5
        with admission.slot(), pytest.raises(UnavailableError) as caught, admission.slot():
            pass
    assert caught.value.retry_after_s == 5


def test_bodies_that_would_take_too_much_memory_together_are_turned_away() -> None:
    admission = Admission(10, 100)
    with admission.slot() as first:
        first.hold_bytes(60)
        with admission.slot() as second, pytest.raises(UnavailableError, match="hold 60 bytes"):
            second.hold_bytes(41)
    assert admission.pending_bytes == 0
    with admission.slot() as alone:
        alone.hold_bytes(1000)  # a single body is limited by max_body_bytes alone
    assert admission.pending_bytes == 0
