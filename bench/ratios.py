"""Compute ratios from raw rounds: each is taken within a round, and reported as the median over the rounds.

A ratio compares with plain FastAPI, with the best alternative, or with a baseline, always of the same round.
"""

import statistics
from collections.abc import Callable
from typing import Final

from bench.measurements import Results, Round
from bench.servers import ALTERNATIVES, BASELINE, OUR_SERVER

ALTERNATIVE_NAMES: Final = tuple(server.name for server in ALTERNATIVES)
InRound = Callable[[Round], float | None]


def over_rounds(results: Results, value: InRound) -> list[float]:
    """Return the value of each round that has one."""
    values = (value(one) for one in results.rounds)
    return [value for value in values if value is not None]


def median(values: list[float]) -> float | None:
    """Return the median; None without values."""
    return statistics.median(values) if values else None


def rate(server: str, model: str | None, concurrency: int) -> InRound:
    """Good answers per second."""

    def in_round(one: Round) -> float | None:
        load = one.load(server, model, concurrency)
        return load.requests_per_s if load else None

    return in_round


def p50_ms(server: str, model: str | None, concurrency: int) -> InRound:
    """Median latency; None without answers."""

    def in_round(one: Round) -> float | None:
        load = one.load(server, model, concurrency)
        return load.p50_ms if load and load.requests else None

    return in_round


def p99_ms(server: str, model: str | None, concurrency: int) -> InRound:
    """99th percentile of the latency; None without answers."""

    def in_round(one: Round) -> float | None:
        load = one.load(server, model, concurrency)
        return load.p99_ms if load and load.requests else None

    return in_round


def of_visit(server: str, model: str | None, field: str) -> InRound:
    """Field of a trial, such as "ready_s"."""

    def in_round(one: Round) -> float | None:
        measured = one.trial(server, model)
        value = getattr(measured, field) if measured else None
        return None if value is None else float(value)

    return in_round


def best_rate(server: str, model: str | None) -> InRound:
    """Highest rate of good answers at any concurrency."""

    def in_round(one: Round) -> float | None:
        measured = one.trial(server, model)
        return max((load.requests_per_s for load in measured.loads.values()), default=None) if measured else None

    return in_round


def best_alternative_rate(model: str, concurrency: int) -> InRound:
    """Rate of the alternative that was the fastest in this round."""

    def in_round(one: Round) -> float | None:
        rates = [found for name in ALTERNATIVE_NAMES if (found := rate(name, model, concurrency)(one)) is not None]
        return max(rates, default=None)

    return in_round


def runtime_rate(model: str, precision: str) -> InRound:
    """Images per second of the runtime alone at its best batch size."""

    def in_round(one: Round) -> float | None:
        found = [r for r in one.runtime_alone if (r.model, r.precision) == (model, precision)]
        return found[0].best_images_per_s if found else None

    return in_round


def binary_infer_ms(model: str, field: str) -> InRound:
    """Mean time of V2 binary inference by our server: "client_ms", "service_ms" or "runtime_ms"."""

    def in_round(one: Round) -> float | None:
        measured = one.trial(OUR_SERVER, model)
        seen = measured.binary_infer if measured else None
        return None if seen is None else float(getattr(seen, field))

    return in_round


def ratio(value: InRound, to: InRound) -> InRound:
    """Divide one value by another within each round; None if either is missing or the divisor is 0."""

    def in_round(one: Round) -> float | None:
        numerator, denominator = value(one), to(one)
        return None if numerator is None or not denominator else numerator / denominator

    return in_round


def rate_to_baseline(server: str, model: str | None, concurrency: int) -> InRound:
    """Requests/s as a multiple of plain FastAPI's."""
    return ratio(rate(server, model, concurrency), rate(BASELINE, model, concurrency))
