"""The kinds of load: what is uploaded, and at which concurrency."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.photographs import Format

SMALL: Final = "small"


@dataclass(frozen=True)
class LoadKind:
    """A kind of load: its name in results and on the command line, and its uploads."""

    name: str
    title: str
    photographs: Format | None = None
    """None: small images of the model's own size, for every model; otherwise photographs, for one model."""
    count: int = 0
    """At most this many different photographs."""
    concurrency: Sequence[int] | None = None
    """The default; None: that of the run."""
    times_longer: int = 1
    """Factor of the run's load time, as requests in flight at the end don't count and would weigh on slow servers."""


LOADS: Final = {
    kind.name: kind
    for kind in (
        LoadKind(SMALL, "32x32 PNG and JPEG"),
        LoadKind("photo", "640x480 JPEG, 48 kB", Format(640, 480, 48_000), count=40, concurrency=(1, 8, 64)),
        LoadKind(
            "12mp", "12-megapixel JPEG, 4 MB", Format(4000, 3000, 4_000_000), count=3, concurrency=(8,), times_longer=4
        ),
    )
}
