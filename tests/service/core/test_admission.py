import pytest

from service.core.admission import Admission
from service.errors import UnavailableError


def test_one_more_than_the_slots_is_turned_away_until_one_leaves() -> None:
    admission = Admission(2)
    admission.enter()
    admission.enter()
    with pytest.raises(UnavailableError, match="2 requests are waiting") as caught:
        admission.enter()
    assert caught.value.retry_after_s >= 1
    assert admission.pending == 2
    admission.leave()
    admission.enter()
    assert admission.pending == 2


def test_check_takes_no_slot() -> None:
    admission = Admission(1)
    admission.check()
    admission.check()
    assert admission.pending == 0


def test_retry_after_follows_the_rate_of_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("service.core.admission.time.monotonic", lambda: now_s)
    admission = Admission(10)
    for _ in range(10):
        admission.enter()
    for _ in range(100):
        now_s += 0.5
        admission.leave()
        admission.enter()
    with pytest.raises(UnavailableError) as caught:
        admission.check()
    assert caught.value.retry_after_s == 5
