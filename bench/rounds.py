"""Run the rounds: every server with every model, one at a time, in an order that rotates from round to round.

The measurements of a round are close together in time, so that its ratios are robust to a machine that changes its
speed. The results are stored after each trial, so an interrupted run keeps its results.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.errors import BenchError
from bench.goals import SMALL_CNNS
from bench.loads import SMALL
from bench.measurements import Results, Round, RuntimeAlone, Trial
from bench.servers import OUR_DEFAULT, Server
from bench.trials import Bench, overload, runtime_alone, trial, whole_start

Item = TypeVar("Item")


@dataclass(frozen=True)
class Step:
    """A trial to run: a server with a model, which is None for an HTTP baseline."""

    server: Server
    model: str | None


def rotated(items: Sequence[Item], by: int) -> list[Item]:
    """Rotate the items so that the one at index `by` comes first."""
    start = by % len(items) if items else 0
    return [*items[start:], *items[:start]]


def steps_of_round(servers: Sequence[Server], models: Sequence[str], number: int) -> list[list[Step]]:
    """Group the trials by model, in this round's order; the HTTP baselines are in the first small CNN's group."""
    beside_baselines = first_small_cnn(models)
    groups = []
    for place, model in enumerate(rotated(models, number)):
        answering = [Step(server, model) for server in servers if server.serves_models]
        baselines = [Step(server, None) for server in servers if not server.serves_models and model == beside_baselines]
        groups.append(rotated([*answering, *baselines], number + place))
    return groups


def first_small_cnn(models: Sequence[str]) -> str:
    """Return the model for baselines, photographs and overload: the first small CNN, or the first model without one."""
    return next((model for model in models if model in SMALL_CNNS), models[0])


class Measuring:
    """A run in progress: measures round by round, and stores the results after each step."""

    def __init__(self, bench: Bench, servers: Sequence[Server], results: Results, file: Path) -> None:
        self._bench = bench
        self._servers = servers
        self._results = results
        self._file = file

    def run(self, rounds: int) -> Results:
        """Measure this many rounds; return the results."""
        for number in range(rounds):
            self._results = self._results.model_copy(update={"rounds": [*self._results.rounds, Round(number=number)]})
            self._round(number)
        return self._results

    def _round(self, number: int) -> None:
        models = list(self._bench.versions)
        for group in steps_of_round(self._servers, models, number):
            for step in group:
                self._keep(trials=[trial(self._bench, step.server, step.model)])
            if SMALL in self._bench.loads:
                self._runtime_alone(next(step.model for step in group if step.model))
        if SMALL in self._bench.loads and any(server.name == OUR_DEFAULT for server in self._servers):
            self._ours_only(first_small_cnn(models))

    def _runtime_alone(self, model: str) -> None:
        features = self._results.machine.cpu_features
        for precision in dict.fromkeys(found for server in self._servers if (found := server.computes_in(features))):
            try:
                self._keep(runtime_alone=[runtime_alone(self._bench, model, precision)])
            except BenchError as error:
                self._unavailable(f"runtime alone, {precision}, {model}", error)

    def _ours_only(self, model: str) -> None:
        try:
            self._update(whole_start=whole_start(self._bench))
            measured = self._current.trial(OUR_DEFAULT, model)
            if measured and measured.loads:
                capacity_per_s = max(load.requests_per_s for load in measured.loads.values())
                self._update(overload=overload(self._bench, model, capacity_per_s))
        except BenchError as error:
            self._unavailable("our server with all published versions, and under overload", error)

    @property
    def _current(self) -> Round:
        return self._results.rounds[-1]

    def _keep(self, *, trials: Sequence[Trial] = (), runtime_alone: Sequence[RuntimeAlone] = ()) -> None:
        for found in trials:
            tell(self._current.number, found)
            if found.failure:
                self._unavailable(f"{found.server}, {found.model or 'no model'}", found.failure)
        self._update(
            trials=[*self._current.trials, *trials], runtime_alone=[*self._current.runtime_alone, *runtime_alone]
        )

    def _update(self, **parts: object) -> None:
        current = self._current.model_copy(update=parts)
        self._results = self._results.model_copy(update={"rounds": [*self._results.rounds[:-1], current]})
        self._results.write(self._file)

    def _unavailable(self, what: str, why: object) -> None:
        print(f"  {what}: {why}", file=sys.stderr, flush=True)
        self._results = self._results.model_copy(update={"unavailable": self._results.unavailable | {what: str(why)}})


def tell(round_number: int, measured: Trial) -> None:
    """Print a line about a trial."""
    loads = [("", at, load) for at, load in measured.loads.items()]
    loads += [(f"{kind} ", at, load) for kind, found in measured.photograph_loads.items() for at, load in found.items()]
    rates = ", ".join(f"{load.requests_per_s:,.0f}/s at {kind}{concurrency}" for kind, concurrency, load in loads)
    errors = sum(load.errors for _, _, load in loads)
    print(
        f"round {round_number + 1}: {measured.server:<26} {measured.model or '':<12} {rates or 'nothing'}"
        + (f", {errors} errors" if errors else ""),
        flush=True,
    )
