import io

import pytest

from cluster.scoring.progress import Progress, duration
from tests.waiting import ManualClock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_have_rate_and_time_left() -> None:
    stream, clock = io.StringIO(), ManualClock()
    progress = Progress(100_000, "images", stream=stream, clock=clock)
    progress.skip(40_000)
    for _ in range(4):
        clock.now_s += 5
        progress.scored(10_000, 10_000, 1)
    progress.close()
    assert stream.getvalue().splitlines() == [
        "20,000 of 60,000 images, 33.3%, 2,000 images/s, 20 s left, 2 errors",
        "40,000 of 60,000 images, 66.7%, 2,000 images/s, 10 s left, 4 errors",
    ]
    assert (progress.images, progress.elapsed_s) == (40_000, 20)


def test_rate_is_that_of_the_last_minute() -> None:
    stream, clock = io.StringIO(), ManualClock()
    progress = Progress(1_000_000, "images", stream=stream, clock=clock)
    for rate in [100] * 20 + [1000] * 20:
        clock.now_s += 10
        progress.scored(10 * rate, 10 * rate, 0)
    assert "1,000 images/s" in stream.getvalue().splitlines()[-1]


def test_tars_are_measured_in_bytes_and_a_terminal_has_one_line() -> None:
    stream, clock = Terminal(), ManualClock()
    progress = Progress(200_000_000, "bytes", stream=stream, clock=clock)
    clock.now_s += 1
    progress.scored(50_000_000, 1_000, 0)
    progress.close()
    assert stream.getvalue() == "\r\x1b[K1,000 images, 25.0% of 200 MB, 1,000 images/s, 3 s left\n"


@pytest.mark.parametrize(("seconds", "words"), [(59.4, "59 s"), (200, "3 min 20 s"), (7_500, "2 h 5 min")])
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words
