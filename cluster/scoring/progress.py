"""Progress on standard error: a line that is rewritten on a terminal, otherwise a line now and then."""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, TextIO

TERMINAL_INTERVAL_S: Final = 0.5
LINE_INTERVAL_S: Final = 10.0
RATE_WINDOW_S: Final = 60.0
MINUTE_S: Final = 60
HOUR_S: Final = 3600
MEGABYTE: Final = 10**6


class Progress:
    """Counts what is scored and says how far the run is; thread-safe.

    Args:
        total: the size of the whole input.
        unit: the unit of sizes.
        stream: where to write.
        clock: returns seconds.
    """

    def __init__(
        self,
        total: int,
        unit: Literal["images", "bytes"],
        *,
        stream: TextIO = sys.stderr,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._unit = unit
        self._stream = stream
        self._clock = clock
        self._is_terminal = stream.isatty()
        self._interval_s = TERMINAL_INTERVAL_S if self._is_terminal else LINE_INTERVAL_S
        self._lock = threading.Lock()
        self._size = self._images = self._errors = 0
        self._said_s = self._start_s = clock()
        self._seen: deque[tuple[float, int, int]] = deque([(self._start_s, 0, 0)])
        """Time, size and images at intervals within the last minute: the rate is that of the present."""

    def skip(self, size: int) -> None:
        """Count a part that an earlier run has written."""
        with self._lock:
            self._total -= size

    def scored(self, size: int, images: int, errors: int) -> None:
        """Count a chunk, and write a line if the last one is old enough."""
        with self._lock:
            self._size += size
            self._images += images
            self._errors += errors
            now_s = self._clock()
            if now_s - self._said_s >= self._interval_s:
                self._say(now_s)

    def close(self) -> None:
        """End the line on a terminal."""
        with self._lock:
            if self._is_terminal and self._said_s != self._start_s:
                self._stream.write("\n")
                self._stream.flush()

    @property
    def images(self) -> int:
        """Number of images that were scored now."""
        return self._images

    @property
    def elapsed_s(self) -> float:
        """Time since the start."""
        return self._clock() - self._start_s

    def _say(self, now_s: float) -> None:
        self._said_s = now_s
        self._seen.append((now_s, self._size, self._images))
        while len(self._seen) > 2 and self._seen[0][0] < now_s - RATE_WINDOW_S:  # noqa: PLR2004
            self._seen.popleft()
        then_s, size, images = self._seen[0]
        elapsed_s = max(1e-9, now_s - then_s)
        left = max(0, self._total - self._size)
        left_s = left * elapsed_s / max(1, self._size - size)
        words = [
            f"{self._images:,} images" if self._unit == "bytes" else f"{self._size:,} of {self._total:,} images",
            f"{self._size / max(1, self._total):.1%}"
            + (f" of {self._total / MEGABYTE:,.0f} MB" if self._unit == "bytes" else ""),
            f"{(self._images - images) / elapsed_s:,.0f} images/s",
            f"{duration(left_s)} left",
            *([f"{self._errors:,} errors"] if self._errors else []),
        ]
        line = ", ".join(words)
        self._stream.write(f"\r\x1b[K{line}" if self._is_terminal else f"{line}\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """Return a duration as `12 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = round(seconds)
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S} s"
    return f"{whole // HOUR_S:,} h {whole % HOUR_S // MINUTE_S} min"
