"""Perform the attempts of a plan with many concurrent clients, and sum up the outcomes."""

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from scripts.attack.attempts import Attempt, Outcome
from scripts.attack.grpc_calls import Call, Channels
from scripts.attack.kinds import Kind, draw_attempt
from scripts.attack.wire import Service
from scripts.attack.world import World

MAX_SLOW: Final = 200
"""Maximum number of slow attempts in addition to those of the clients."""
MAX_SAVED_PER_KIND: Final = 5
SERVER_ERROR_CODES: Final = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS", "ABORTED"})


@dataclass(slots=True)
class Tally:
    """The summed-up outcomes of one kind's attempts."""

    requests: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    server_errors: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """True if nothing unexpected happened."""
        return not (self.unexpected or self.wrong or self.lost)

    def add(self, attempt: Attempt | Call, outcome: Outcome) -> None:
        """Count an outcome."""
        self.requests += attempt.requests
        self.statuses.update(outcome.statuses)
        self.unexpected += [f"{attempt.name}: {text}" for text in outcome.unexpected]
        self.server_errors += sum(
            text[0] == "5" or text.split()[0] in SERVER_ERROR_CODES for text in outcome.unexpected
        )
        self.wrong += [f"{attempt.name}: {text}" for text in outcome.wrong]
        self.lost += [f"{attempt.name}: {text}" for text in outcome.lost]


def allowing_rejection(attempt: Attempt | Call) -> Attempt | Call:
    """Also allow the attempt to be rejected because of overload."""
    if isinstance(attempt, Call):
        return replace(attempt, codes=attempt.codes | {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}, checks=())
    return replace(attempt, due=tuple(replace(one, statuses=one.statuses | {503}) for one in attempt.due))


@dataclass(slots=True)
class Campaign:
    """A run.

    Args:
        clients: number of concurrent clients.
        time_limit_s: attempts that haven't been sent by then are left out.
        folder: unexpected attempts are saved here; None saves nothing.
        is_overloaded: allow 503 and UNAVAILABLE everywhere.
    """

    service: Service
    grpc_service: Service
    channels: Channels | None
    world: World
    seed: int
    clients: int
    time_limit_s: float
    folder: Path | None
    is_overloaded: bool = False
    tallies: dict[str, Tally] = field(default_factory=dict)
    left_out: int = 0
    duration_s: float = 0.0
    _saved: Counter[str] = field(default_factory=Counter)

    async def run(self, plan: Sequence[tuple[Kind, int]]) -> None:
        """Perform a plan."""
        ready = {
            (kind.name, number): draw_attempt(kind, number, self.seed, self.world)
            for kind, number in plan
            if kind.is_costly
        }
        start_s = time.monotonic()
        waiting = deque(plan)
        slow: set[asyncio.Task[None]] = set()

        async def client() -> None:
            while waiting:
                kind, number = waiting.popleft()
                if time.monotonic() - start_s > self.time_limit_s:
                    self.left_out += 1
                    continue
                attempt = ready.pop((kind.name, number), None)
                attempt = attempt or draw_attempt(kind, number, self.seed, self.world)
                if not attempt.is_slow:
                    await self._perform(kind, number, attempt)
                    continue
                while len(slow) >= MAX_SLOW:
                    await asyncio.wait(slow, return_when=asyncio.FIRST_COMPLETED)
                task = asyncio.create_task(self._perform(kind, number, attempt))
                slow.add(task)
                task.add_done_callback(slow.discard)

        async with asyncio.TaskGroup() as clients:
            for _ in range(self.clients):
                clients.create_task(client())
        await asyncio.gather(*slow)
        self.duration_s = time.monotonic() - start_s

    async def _perform(self, kind: Kind, number: int, attempt: Attempt | Call) -> None:
        if self.is_overloaded:
            attempt = allowing_rejection(attempt)
        if isinstance(attempt, Attempt):
            service = self.grpc_service if attempt.is_for_grpc else self.service
            outcome = await service.perform(attempt)
        elif self.channels is not None:
            outcome = await self.channels.perform(attempt)
        else:
            return
        self.tallies.setdefault(kind.name, Tally()).add(attempt, outcome)
        if not outcome.is_right:
            self._save(f"{kind.name}-{number}", kind, attempt, outcome)

    def _save(self, name: str, kind: Kind, attempt: Attempt | Call, outcome: Outcome) -> None:
        """Save the bytes and the way they were sent."""
        self._saved[kind.name] += 1
        if self.folder is None or self._saved[kind.name] > MAX_SAVED_PER_KIND:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{name}.bin").write_bytes(attempt.content)
        words = {
            "kind": kind.name,
            "variant": attempt.name,
            "seed": self.seed,
            "unexpected": outcome.unexpected,
            "wrong": outcome.wrong,
            "lost": outcome.lost,
            "statuses": outcome.statuses,
        }
        if isinstance(attempt, Attempt):
            words |= {"cuts": attempt.cuts, "pause_s": attempt.pause_s, "ending": attempt.ending.name}
        else:
            words |= {
                "method": attempt.method,
                "timeout_s": attempt.timeout_s,
                "cancel_after_s": attempt.cancel_after_s,
            }
        (self.folder / f"{name}.json").write_text(json.dumps(words, indent=1))
