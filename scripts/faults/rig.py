"""A service under steady load, into which a fault is injected."""

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
"""Between two looks whether something has happened."""
WAIT_TIMEOUT_S: Final = 60.0
LIVENESS_TIMEOUT_S: Final = 5.0
PHOTO_TIMEOUT_S: Final = 90.0


Draw = Callable[[random.Random, World], Attempt]


@dataclass(frozen=True, slots=True)
class Observed:
    """The effect of a fault.

    Args:
        happened: in words.
        recovered_s: from the fault, or from its end where it lasts, until all is as before; None: it never was.
    """

    happened: str
    recovered_s: float | None


@dataclass(slots=True)
class Load:
    """Clients that ask for predictions all the while, and what they got.

    Args:
        failures: when an answer was missing or wrong, in seconds of `time.monotonic`, and what was wrong with it.
    """

    right: int = 0
    longest_s: float = 0.0
    failures: list[tuple[float, str]] = field(default_factory=list)

    def failed_words(self) -> str:
        """Say how many requests failed, and in which ways."""
        if not self.failures:
            return f"all {self.right:,} background requests succeeded"
        ways = ", ".join(f"{count} x {way}" for way, count in Counter(way for _, way in self.failures).most_common(3))
        return f"{len(self.failures)} of {self.right + len(self.failures):,} background requests failed ({ways})"

    def recovered_s(self, since_s: float) -> float:
        """The time from a moment to the last failure."""
        return max((failed_s - since_s for failed_s, _ in self.failures), default=0.0)


@dataclass(slots=True)
class Rig:
    """A running service, and how to ask it."""

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
        """The processes that serve, where there are several."""
        return [member for member in self.children() if b"spawn_main" in _command(member)]

    def children(self) -> list[int]:
        """The processes that the service has started, and that haven't ended."""
        return [member for member in family(self.process_id)[1:] if not _has_ended(member)]

    async def is_live(self) -> bool:
        """Ask `/livez` over a connection of its own."""
        asked = Attempt("livez", SENTINEL, due(200))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIVENESS_TIMEOUT_S):
                return (await self.service.perform(asked)).is_right
        return False

    def photo(self) -> Attempt:
        """A request with an image that a decoder thread decodes."""
        picture = self.world.photos[0]
        content = request("POST", "/predict", picture.content, [("Content-Type", picture.media_type)], close=True)
        return Attempt("photo", content, due(200, 503, 504))

    async def photo_answers(self) -> float | None:
        """Wait until a photo is answered with 200; the time in seconds, None where it never is."""
        start_s = time.monotonic()
        while time.monotonic() - start_s < PHOTO_TIMEOUT_S:
            if "200" in await answers_of(self.service, [self.photo()]):
                return time.monotonic() - start_s
            await asyncio.sleep(PAUSE_S)
        return None

    @asynccontextmanager
    async def load(self, clients: int = CLIENTS, kind: "Draw | None" = None) -> AsyncIterator[Load]:
        """Ask all the while, for a second before the fault; small images where no other kind is given."""
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
    """A service on these models whose right answers are known."""
    with started_service(models, folder, **settings) as attacked:
        service, world = Service(attacked.host, attacked.port), draw_world(SEED)
        await world.learn(service)
        rig = Rig(attacked, service, world, models, folder)
        try:
            yield rig
        finally:
            service.close()


async def eventually(condition: Callable[[], object], timeout_s: float = WAIT_TIMEOUT_S) -> float | None:
    """Wait for a condition; how long it took in seconds, None where it never came."""
    start_s = time.monotonic()
    while not condition():
        if time.monotonic() - start_s > timeout_s:
            return None
        await asyncio.sleep(PAUSE_S)
    return time.monotonic() - start_s


async def answers_of(service: Service, attempts: Sequence[Attempt]) -> Counter[str]:
    """Send all of these at once; how often each status came."""
    outcomes = await asyncio.gather(*(service.perform(attempt) for attempt in attempts))
    return Counter(status for outcome in outcomes for status in (outcome.statuses or ["none"]))


def in_words(statuses: Counter[str]) -> str:
    """Statuses and how often each came."""
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
