"""The goals, and whether a run met them. Values are compared unrounded, and shown rounded to the worse side.

With several rounds, the median of their values decides.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bench.measurements import Results, Round
from bench.ratios import (
    DEFAULT,
    OURS_IN,
    InRound,
    best_rate,
    binary_infer_ms,
    median,
    over_rounds,
    peers,
    rate,
    ratio,
    runtime_rate,
)

SMALL_CNNS: Final = ("sequential", "functional", "subclassing")
TRANSFER_MODELS: Final = ("vgg16", "mobilenetv2", "resnet50v2")
GOAL_MODELS: Final = (*SMALL_CNNS, *TRANSFER_MODELS)
"""The models that goals were set for."""
DECIMALS: Final = 3
TIMES_BEST: Final = {
    **{model: {1: 2.5, 8: 2.5, 64: 2.5} for model in SMALL_CNNS},
    "mobilenetv2": {1: 2.2, 8: 1.5, 64: 1.6},
    "vgg16": {8: 1.3, 64: 1.2},
    "resnet50v2": {8: 1.3, 64: 1.2},
}
"""Model -> concurrency -> wanted multiple of the best alternative's requests/s, in each precision."""
PHOTOGRAPH_MODEL: Final = "sequential"
TIMES_BEST_PHOTOGRAPHS: Final = {"photo": {1: 2.0, 8: 2.0, 64: 2.0}, "12mp": {8: 1.5}}
"""The same with photographs: kind of load -> concurrency -> wanted multiple."""
RUNTIME_SHARES: Final = {"vgg16": 0.85, "resnet50v2": 0.85, "mobilenetv2": 0.75}
"""Model -> wanted share of the images/s of the runtime alone."""
RUNTIME_CONCURRENCY: Final = (8, 64)


class Verdict(StrEnum):
    """The outcome of a goal."""

    MET = "met"
    NOT_MET = "not met"
    NOT_MEASURED = "not measured"
    NO_OVERLOAD = "no overload, no verdict"


@dataclass(frozen=True)
class Goal:
    """A limit for one measured value."""

    text: str
    value: InRound
    limit: float
    at_least: bool = True
    """False: at most."""
    strict: bool = False
    """The limit itself does not meet the goal."""
    unit: str = "times"
    of_overload: bool = False
    """Rounds in which the server was never overloaded don't count."""

    @property
    def wanted(self) -> str:
        """The limit in words."""
        sign = ("> " if self.strict else "≥ ") if self.at_least else ("< " if self.strict else "≤ ")
        return f"{sign}{self.limit:g} {self.unit}".strip()

    def meets(self, value: float) -> bool:
        """Return whether an unrounded value meets the goal."""
        if value == self.limit:
            return not self.strict
        return value > self.limit if self.at_least else value < self.limit

    def shown(self, value: float) -> str:
        """Return the value rounded towards the worse side."""
        return f"{toward_worse(value, lower_is_worse=self.at_least):,.{DECIMALS}f} {self.unit}".strip()


@dataclass(frozen=True)
class Judged:
    """A goal with the measured values: the median of the rounds, and the worst round."""

    goal: Goal
    verdict: Verdict
    measured: str
    worst: str


def toward_worse(value: float, *, lower_is_worse: bool) -> float:
    """Round to DECIMALS decimals, never in favour of the value."""
    # The text of a number that is exact to the last decimal must not be cut by the error of a multiplication.
    scaled = float(f"{value * 10**DECIMALS:.6f}")
    return (math.floor(scaled) if lower_is_worse else math.ceil(scaled)) / 10**DECIMALS


def goals(results: Results) -> Iterator[Goal]:
    """Yield every goal, for each model and each precision in which our server was measured."""
    for precision, ours in OURS_IN.items():
        if ours in results.servers:
            yield from _of_precision(results, precision, ours)
    for model in GOAL_MODELS:
        yield Goal(
            f"{model}: V2 binary infer of 32 images vs its runtime call",
            ratio(binary_infer_ms(model, "client_ms"), binary_infer_ms(model, "runtime_ms")),
            1.3,
            at_least=False,
        )
    yield Goal(
        "overload at 3 times the capacity: goodput vs the best requests/s", _goodput_ratio, 0.85, of_overload=True
    )
    yield Goal(
        "overload: p99 of rejected answers",
        _rejected_p99_ms,
        50,
        at_least=False,
        strict=True,
        unit="ms",
        of_overload=True,
    )
    yield Goal("overload: errors other than 503 and 504", _other_errors, 0, at_least=False, unit="", of_overload=True)
    yield Goal("first start until ready, six models", _whole("first_ready_s"), 2.5, at_least=False, unit="s")
    yield Goal("next start until ready, six models", _whole("ready_s"), 2.5, at_least=False, unit="s")
    yield Goal("resident memory after load, six models", _whole_rss_mb, 600, at_least=False, unit="MB")
    yield Goal("import of the application", _import_s, 0.7, at_least=False, unit="s")


def judge(results: Results) -> list[Judged]:
    """Return every goal with its verdict."""
    return [_judge(goal, results) for goal in goals(results)]


def _judge(goal: Goal, results: Results) -> Judged:
    if goal.of_overload:
        tried = [one for one in results.rounds if one.overload]
        overloaded = [one for one in tried if one.overload and one.overload.was_overload]
        if tried and not overloaded:
            return Judged(goal, Verdict.NO_OVERLOAD, "", "")
        results = results.model_copy(update={"rounds": overloaded})
    values = over_rounds(results, goal.value)
    value = median(values)
    if value is None:
        return Judged(goal, Verdict.NOT_MEASURED, "", "")
    worst = min(values) if goal.at_least else max(values)
    verdict = Verdict.MET if goal.meets(value) else Verdict.NOT_MET
    return Judged(goal, verdict, goal.shown(value), goal.shown(worst))


def _of_precision(results: Results, precision: str, ours: str) -> Iterator[Goal]:
    others = peers(results, precision)
    loads: list[tuple[str, str | None, dict[int, float]]] = [
        (model, None, wanted) for model, wanted in TIMES_BEST.items()
    ]
    loads += [(PHOTOGRAPH_MODEL, kind, wanted) for kind, wanted in TIMES_BEST_PHOTOGRAPHS.items()]
    for model, kind, wanted in loads:
        for concurrency, limit in wanted.items():
            what = f"{model}, {kind}" if kind else model
            yield Goal(
                f"{what}, {precision}, concurrency {concurrency}: requests/s vs the best alternative",
                ratio(rate(ours, model, concurrency, kind), best_rate(others, model, concurrency, kind)),
                limit,
            )
    if precision == DEFAULT:  # our own choice has no single precision
        return
    for model, limit in RUNTIME_SHARES.items():
        for concurrency in RUNTIME_CONCURRENCY:
            yield Goal(
                f"{model}, {precision}, concurrency {concurrency}: requests/s vs the runtime only, batches up to it",
                ratio(rate(ours, model, concurrency), runtime_rate(model, precision, concurrency)),
                limit,
            )


def _goodput_ratio(one: Round) -> float | None:
    seen = one.overload
    return seen.goodput_per_s / seen.capacity_per_s if seen and seen.capacity_per_s else None


def _rejected_p99_ms(one: Round) -> float | None:
    return one.overload.rejected_p99_ms if one.overload else None


def _other_errors(one: Round) -> float | None:
    return float(one.overload.other_errors) if one.overload else None


def _whole(field: str) -> InRound:
    def in_round(one: Round) -> float | None:
        start = one.whole_start
        # With fewer models it would be another, easier goal.
        value = getattr(start, field) if start and set(GOAL_MODELS) <= set(start.models) else None
        return None if value is None else float(value)

    return in_round


def _whole_rss_mb(one: Round) -> float | None:
    rss_bytes = _whole("rss_loaded_bytes")(one)
    return None if rss_bytes is None else rss_bytes / 1e6


def _import_s(one: Round) -> float | None:
    return median(one.whole_start.import_s) if one.whole_start else None
