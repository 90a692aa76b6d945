"""A service under steady load, for fault injection."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scripts.attack import right
from scripts.attack.attempts import SENTINEL, Attempt, Outcome, due, request
from scripts.attack.process import Attacked, family, started_service
from scripts.attack.wire import Service
from scripts.attack.world import World, draw_world

CLIENTS: Final = 8
SEED: Final = 1
PAUSE_S: Final = 0.02
"""Pause between two checks of a condition."""
WAIT_TIMEOUT_S: Final = 60.0
LIVENESS_TIMEOUT_S: Final = 5.0
PHOTO_TIMEOUT_S: Final = 90.0


Draw = Callable[[random.Random, World], Attempt]


@dataclass(frozen=True, slots=True)
class Observed:
    """The effect of a fault.

    Args:
        happened: description of the effect.
        recovered_s: time from the fault, or from its end if it lasts, until everything is as before; None: never.
    """

    happened: str
    recovered_s: float | None


@dataclass(slots=True)
class Load:
    """Clients that request predictions continuously, and the outcomes.

    Args:
        failures: for each missing or wrong answer, the time in seconds of `time.monotonic` and the problem.
    """

    right: int = 0
    longest_s: float = 0.0
    failures: list[tuple[float, str]] = field(default_factory=list)

    def failed_words(self) -> str:
        """Describe how many requests failed, and how."""
        if not self.failures:
            return f"all {self.right:,} background requests succeeded"
        ways = ", ".join(f"{count} x {way}" for way, count in Counter(way for _, way in self.failures).most_common(3))
        return f"{len(self.failures)} of {self.right + len(self.failures):,} background requests failed ({ways})"

    def recovered_s(self, since_s: float) -> float:
        """Return the time from `since_s` to the last failure."""
        return max((failed_s - since_s for failed_s, _ in self.failures), default=0.0)


@dataclass(slots=True)
class Rig:
    """A running service with its models and expected answers."""

    attacked: Attacked
    service: Service
    world: World
    models: Path
    folder: Path

    @property
    def process_id(self) -> int:
        """Process id of the service's first process."""
        return self.attacked.process.pid

    def workers(self) -> list[int]:
        """List the worker processes, if there are several."""
        return [member for member in self.children() if b"spawn_main" in _command(member)]

    def children(self) -> list[int]:
        """List the service's running child processes."""
        return [member for member in family(self.process_id)[1:] if not _has_ended(member)]

    async def is_live(self) -> bool:
        """Check `/livez` over a new connection."""
        asked = Attempt("livez", SENTINEL, due(200))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIVENESS_TIMEOUT_S):
                return (await self.service.perform(asked)).is_right
        return False

    def photo(self) -> Attempt:
        """Build a request with an image that needs a decoder thread."""
        picture = self.world.photos[0]
        content = request("POST", "/predict", picture.content, [("Content-Type", picture.media_type)], close=True)
        return Attempt("photo", content, due(200, 503, 504))

    async def photo_answers(self) -> float | None:
        """Wait until a photo is answered with 200; return the time in seconds, None if it never is."""
        start_s = time.monotonic()
        while time.monotonic() - start_s < PHOTO_TIMEOUT_S:
            if "200" in await answers_of(self.service, [self.photo()]):
                return time.monotonic() - start_s
            await asyncio.sleep(PAUSE_S)
        return None

    @asynccontextmanager
    async def load(self, clients: int = CLIENTS, kind: "Draw | None" = None) -> AsyncIterator[Load]:
        """Send requests continuously, starting one second before the fault; by default, predictions of small images."""
        make = kind or _small_image
        load, over = Load(), asyncio.Event()

        async def ask(number: int) -> None:
            draw = random.Random(number)  # noqa: S311  # repeatable, on purpose
            while not over.is_set():
                start_s = time.monotonic()
                outcome = await self.service.perform(make(draw, self.world))
                now_s = time.monotonic()
                load.longest_s = max(load.longest_s, now_s - start_s)
                if outcome.is_right:
                    load.right += 1
                else:
                    load.failures.append((now_s, _way(outcome)))
                    await asyncio.sleep(PAUSE_S)

        async with asyncio.TaskGroup() as asking:
            for number in range(clients):
                asking.create_task(ask(number))
            try:
                await asyncio.sleep(1)
                yield load
            finally:
                over.set()


@asynccontextmanager
async def running(models: Path, folder: Path, **settings: str) -> AsyncIterator[Rig]:
    """Start a service on these models, and learn its expected answers."""
    with started_service(models, folder, **settings) as attacked:
        service, world = Service(attacked.host, attacked.port), draw_world(SEED)
        await world.learn(service)
        rig = Rig(attacked, service, world, models, folder)
        try:
            yield rig
        finally:
            service.close()


async def eventually(condition: Callable[[], object], timeout_s: float = WAIT_TIMEOUT_S) -> float | None:
    """Wait for a condition; return the time in seconds, None if it never became true."""
    start_s = time.monotonic()
    while not condition():
        if time.monotonic() - start_s > timeout_s:
            return None
        await asyncio.sleep(PAUSE_S)
    return time.monotonic() - start_s


async def answers_of(service: Service, attempts: Sequence[Attempt]) -> Counter[str]:
    """Send all attempts concurrently; count the statuses."""
    outcomes = await asyncio.gather(*(service.perform(attempt) for attempt in attempts))
    return Counter(status for outcome in outcomes for status in (outcome.statuses or ["none"]))


def in_words(statuses: Counter[str]) -> str:
    """Format the counts of statuses."""
    return ", ".join(f"{count:,} x {status}" for status, count in sorted(statuses.items()))


def _small_image(draw: random.Random, world: World) -> Attempt:
    content, check = right.predicting(draw, world)
    return Attempt("small", content, due(200, check=check), reuses=True)


def _way(outcome: Outcome) -> str:
    if outcome.wrong:
        return "a wrong answer"
    if outcome.lost:
        return "no connection" if outcome.lost[0].startswith("no connection") else "no answer"
    return outcome.statuses[-1]


def _command(process_id: int) -> bytes:
    try:
        return Path(f"/proc/{process_id}/cmdline").read_bytes()
    except OSError:
        return b""


def _has_ended(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
