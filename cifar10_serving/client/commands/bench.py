"""`bench`: measure how fast the service answers this client, in a closed or an open loop, with a histogram."""

import argparse
import asyncio
import json
import math
import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cifar10_serving.client._async_client import AsyncClient
from cifar10_serving.client._client import Client
from cifar10_serving.client._config import NO_RETRIES
from cifar10_serving.client._errors import ClientError
from cifar10_serving.client._images import encode_image
from cifar10_serving.client._pillow_images import encode_png
from cifar10_serving.client.commands.arguments import (
    add_json,
    add_model,
    add_service,
    client_options,
    concurrency,
    rate,
    seconds,
)
from cifar10_serving.client.commands.asked_version import asked_metadata
from cifar10_serving.client.commands.exit_codes import ExitCode, exit_code
from cifar10_serving.client.commands.files import find_images
from cifar10_serving.client.commands.output import aligned
from cifar10_serving.text import printable

MAX_OUTSTANDING: Final = 1000
"""Limit of outstanding requests in an open loop; requests beyond it are counted as not sent."""
DEFAULT_CONCURRENCY: Final = 8
DEFAULT_DURATION_S: Final = 10.0
RANDOM_IMAGES: Final = 64
PERCENTILES: Final = (50, 90, 99, 99.9, 100)
EDGES_MS: Final = tuple(step * 10**power for power in range(-1, 5) for step in (1, 2, 5))
"""Upper edges of the histogram's bars."""
BAR_WIDTH: Final = 40
LATE_MS: Final = 5.0
"""Delay of a request above which the client is considered too slow."""


@dataclass
class Measured:
    """The results of a run; latencies are those of answered requests."""

    latencies_s: list[float] = field(default_factory=list)
    lateness_s: list[float] = field(default_factory=list)
    """Delays between due time and sending in an open loop, which are the client's own fault."""
    errors: Counter[str] = field(default_factory=Counter)
    not_sent: int = 0
    duration_s: float = 0.0
    last_error: ClientError | None = None

    def percentile_s(self, percent: float) -> float:
        """Return the nearest-rank percentile: the smallest latency that this share of the requests doesn't exceed."""
        return percentile(self.latencies_s, percent)


@dataclass(frozen=True, slots=True)
class Load:
    """The load to generate.

    Args:
        images: encoded images, sent in turn.
        duration_s: duration of the run in seconds.
    """

    client: AsyncClient
    images: Sequence[bytes]
    model: str | None
    version: str | None
    duration_s: float

    async def closed_loop(self, concurrency: int) -> Measured:
        """Run this many callers, each of which sends its next request after an answer."""
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
        """Send requests at a fixed rate."""
        measured = Measured()
        outstanding: set[asyncio.Task[None]] = set()
        begin_s = time.perf_counter()
        for number in range(math.ceil(self.duration_s * rate_per_s)):
            due_s = begin_s + number / rate_per_s
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            if len(outstanding) >= MAX_OUTSTANDING:
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
    """Return the nearest-rank percentile of at least one value."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.description = (
        "A closed loop (--concurrency) measures throughput, but underestimates latency (coordinated omission). "
        "An open loop (--rate) measures the latency of independent callers. The results include this client's own "
        "overhead; `make bench` compares servers with a faster client."
    )
    command.add_argument("files", nargs="*", metavar="FILE", help="images to send; default: 64 images of random pixels")
    add_model(command)
    how = command.add_mutually_exclusive_group()
    how.add_argument(
        "--concurrency",
        type=concurrency,
        default=DEFAULT_CONCURRENCY,
        metavar="N",
        help=f"closed loop: number of callers, each waiting for its answer; default: {DEFAULT_CONCURRENCY}",
    )
    how.add_argument("--rate", type=rate, metavar="PER_SECOND", help="open loop: requests per second")
    command.add_argument(
        "--duration",
        type=seconds,
        default=DEFAULT_DURATION_S,
        metavar="SECONDS",
        help=f"duration of the measurement; default: {DEFAULT_DURATION_S:g}",
    )
    add_json(command, "the measurement")
    add_service(command)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    found = find_images(arguments.files).images
    images = [encode_image(named.image).content for named in found] or _random_images(arguments)
    measured = asyncio.run(_measure(arguments, images))
    print(json.dumps(_record(arguments, measured)) if arguments.json else "\n".join(_lines(arguments, measured)))
    if not measured.errors and not measured.not_sent:
        return ExitCode.DONE
    if measured.latencies_s or measured.last_error is None:
        return ExitCode.PARTLY
    return exit_code(measured.last_error)


async def _measure(arguments: argparse.Namespace, images: list[bytes]) -> Measured:
    most = arguments.concurrency if arguments.rate is None else MAX_OUTSTANDING
    options = client_options(arguments) | {"retries": NO_RETRIES, "max_connections": most}
    async with AsyncClient(**options) as client:
        await client.predict(
            images[0], model=arguments.model, version=arguments.version
        )  # reports a wrong name before the run
        load = Load(client, images, arguments.model, arguments.version, arguments.duration)
        if arguments.rate is None:
            return await load.closed_loop(arguments.concurrency)
        return await load.open_loop(arguments.rate)


def _lines(arguments: argparse.Namespace, measured: Measured) -> list[str]:
    answered = len(measured.latencies_s)
    if arguments.rate is None:
        lines = [f"closed loop, {arguments.concurrency} callers: latencies don't include waiting times of callers"]
    else:
        lines = [f"open loop, {arguments.rate:g} requests/s: latencies count from when a request was due"]
        late_ms = 1000 * percentile(measured.lateness_s, 99) if measured.lateness_s else 0.0
        if late_ms > LATE_MS:
            lines.append(f"this client was too slow: 1 in 100 requests was sent at least {late_ms:.0f} ms late")
    lines.append(f"{answered / measured.duration_s:,.1f} answers/s: {answered:,} in {measured.duration_s:.1f} s")
    lines += [f"{count:,} times {name}" for name, count in measured.errors.most_common()]
    if measured.last_error is not None:
        lines.append(printable(f"last error: {measured.last_error}"))
    if measured.not_sent:
        lines.append(f"{measured.not_sent:,} not sent, because {MAX_OUTSTANDING:,} were unanswered")
    if answered:
        found = (f"p{percent:g} {1000 * measured.percentile_s(percent):.1f} ms" for percent in PERCENTILES)
        lines += [", ".join(found).replace("p100", "max"), "", *_histogram(measured.latencies_s)]
    return lines


def _histogram(latencies_s: list[float]) -> list[str]:
    counts = [0] * (len(EDGES_MS) + 1)
    for latency_s in latencies_s:
        counts[bisect_left(EDGES_MS, 1000 * latency_s)] += 1
    names = [*(f"up to {edge:g} ms" for edge in EDGES_MS), f"above {EDGES_MS[-1]:g} ms"]
    seen = [at for at, count in enumerate(counts) if count]
    rows = [
        (names[at], f"{counts[at]:,}", "█" * round(BAR_WIDTH * counts[at] / max(counts)))
        for at in range(seen[0], seen[-1] + 1)
    ]
    return aligned(rows, right=frozenset({0, 1}))


def _record(arguments: argparse.Namespace, measured: Measured) -> dict[str, object]:
    latencies_ms = {
        f"p{percent:g}": 1000 * measured.percentile_s(percent) for percent in PERCENTILES if measured.latencies_s
    }
    return {
        "loop": "closed" if arguments.rate is None else "open",
        "concurrency": arguments.concurrency if arguments.rate is None else None,
        "due_per_s": arguments.rate,
        "answered": len(measured.latencies_s),
        "answered_per_s": len(measured.latencies_s) / measured.duration_s,
        "duration_s": measured.duration_s,
        "latency_ms": latencies_ms if measured.latencies_s else None,
        "lateness_p99_ms": 1000 * percentile(measured.lateness_s, 99) if measured.lateness_s else None,
        "errors": dict(measured.errors),
        "not_sent": measured.not_sent,
    }


def _random_images(arguments: argparse.Namespace) -> list[bytes]:
    """Return images of the size that the version takes."""
    with Client(**client_options(arguments) | {"retries": NO_RETRIES}) as client:
        height, width, channels = asked_metadata(client, arguments.model, arguments.version).input_shape
    return [encode_png(os.urandom(height * width * channels), height=height, width=width) for _ in range(RANDOM_IMAGES)]
