"""Load for `bench`, in a closed loop or an open one, and what was measured; telling it is `bench`'s part.

In a closed loop each of so many callers asks again when it was answered, so a slow answer keeps requests from being
sent, and the time that they would have waited is in no latency (coordinated omission). In an open loop requests are
due at a fixed rate whatever the answers do, and a latency counts from the moment when its request was due.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from client._async_client import AsyncClient
from client._errors import ClientError

MOST_OUTSTANDING: Final = 1000
"""Requests that may wait for their answers in an open loop; what is due beyond is counted as not sent."""


@dataclass
class Measured:
    """What a run has seen; latencies are of the requests that were answered."""

    latencies_s: list[float] = field(default_factory=list)
    lateness_s: list[float] = field(default_factory=list)
    """By how much later than due a request left, in an open loop: this client's own fault."""
    errors: Counter[str] = field(default_factory=Counter)
    not_sent: int = 0
    duration_s: float = 0.0
    last_error: ClientError | None = None

    def percentile_s(self, percent: float) -> float:
        """The nearest-rank percentile: the smallest latency that so many percent of the requests don't exceed."""
        return percentile(self.latencies_s, percent)


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked.

    Args:
        images: encoded; asked about in turn.
        duration_s: how long requests are sent.
    """

    client: AsyncClient
    images: Sequence[bytes]
    model: str | None
    version: str | None
    duration_s: float

    async def closed_loop(self, concurrency: int) -> Measured:
        """So many callers, each asking again when it was answered."""
        measured = Measured()
        begin_s = time.perf_counter()

        async def caller(number: int) -> None:
            while (sent_s := time.perf_counter()) < begin_s + self.duration_s:
                await self._one(number, sent_s, measured)
                number += concurrency

        await asyncio.gather(*(caller(number) for number in range(concurrency)))
        measured.duration_s = time.perf_counter() - begin_s
        return measured

    async def open_loop(self, rate_per_s: float) -> Measured:
        """Requests that are due at a fixed rate."""
        measured = Measured()
        outstanding: set[asyncio.Task[None]] = set()
        begin_s = time.perf_counter()
        for number in range(math.ceil(self.duration_s * rate_per_s)):
            due_s = begin_s + number / rate_per_s
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            if len(outstanding) >= MOST_OUTSTANDING:
                measured.not_sent += 1
                continue
            task = asyncio.create_task(self._due(number, due_s, measured))
            outstanding.add(task)
            task.add_done_callback(outstanding.discard)
        await asyncio.gather(*outstanding)
        measured.duration_s = time.perf_counter() - begin_s
        return measured

    async def _due(self, number: int, due_s: float, measured: Measured) -> None:
        measured.lateness_s.append(time.perf_counter() - due_s)
        await self._one(number, due_s, measured)

    async def _one(self, number: int, since_s: float, measured: Measured) -> None:
        image = self.images[number % len(self.images)]
        try:
            await self.client.predict(image, model=self.model, version=self.version)
        except ClientError as error:
            measured.errors[type(error).__name__] += 1
            measured.last_error = error
        else:
            measured.latencies_s.append(time.perf_counter() - since_s)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of at least one value."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
