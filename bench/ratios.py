"""Compute ratios from raw rounds: each is taken within a round, and reported as the median over the rounds.

A ratio compares with plain FastAPI, with the best alternative in the same precision, or with a baseline, always of the
same round.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import Final

from bench.measurements import Results, Round
from bench.servers import ALTERNATIVES, BASELINE, OUR_DEFAULT, OUR_SERVER, has_bfloat16

InRound = Callable[[Round], float | None]
DEFAULT: Final = "default"
OURS_IN: Final = {"float32": OUR_SERVER, "bfloat16": f"{OUR_SERVER}_bfloat16", DEFAULT: OUR_DEFAULT}
"""Precision -> our server that is compared. The default is what a server takes without being told."""


def peers(results: Results, precision: str) -> list[str]:
    """List the measured alternatives that compute in a precision, or, for DEFAULT, as they do without being told.

    OpenVINO's default is float32 on a CPU without bfloat16. The servers are then measured in float32 only.
    """
    features = results.machine.cpu_features
    names = []
    for server in ALTERNATIVES:
        as_default = server.is_default or not has_bfloat16(features)
        if server.name in results.servers and (
            as_default if precision == DEFAULT else server.computes_in(features) == precision
        ):
            names.append(server.name)
    return names


def over_rounds(results: Results, value: InRound) -> list[float]:
    """Return the value of each round that has one."""
    values = (value(one) for one in results.rounds)
    return [value for value in values if value is not None]


def median(values: list[float]) -> float | None:
    """Return the median; None without values."""
    return statistics.median(values) if values else None


def rate(server: str, model: str | None, concurrency: int, kind: str | None = None) -> InRound:
    """Good answers per second; `kind` is the kind of load, None for small images."""

    def in_round(one: Round) -> float | None:
        load = one.load(server, model, concurrency, kind)
        return load.requests_per_s if load else None

    return in_round


def p50_ms(server: str, model: str | None, concurrency: int, kind: str | None = None) -> InRound:
    """Median latency; None without answers."""

    def in_round(one: Round) -> float | None:
        load = one.load(server, model, concurrency, kind)
        return load.p50_ms if load and load.requests else None

    return in_round


def p99_ms(server: str, model: str | None, concurrency: int, kind: str | None = None) -> InRound:
    """99th percentile of the latency; None without answers."""

    def in_round(one: Round) -> float | None:
        load = one.load(server, model, concurrency, kind)
        return load.p99_ms if load and load.requests else None

    return in_round


def of_visit(server: str, model: str | None, field: str) -> InRound:
    """Field of a trial, such as "ready_s"."""

    def in_round(one: Round) -> float | None:
        measured = one.trial(server, model)
        value = getattr(measured, field) if measured else None
        return None if value is None else float(value)

    return in_round


def best_rate(servers: Sequence[str], model: str, concurrency: int, kind: str | None = None) -> InRound:
    """Rate of the server that was the fastest in this round."""

    def in_round(one: Round) -> float | None:
        rates = [found for name in servers if (found := rate(name, model, concurrency, kind)(one)) is not None]
        return max(rates, default=None)

    return in_round


def lowest_p99_ms(servers: Sequence[str], model: str, concurrency: int, kind: str | None = None) -> InRound:
    """99th percentile of the latency of the server where it was the lowest in this round."""

    def in_round(one: Round) -> float | None:
        found = [ms for name in servers if (ms := p99_ms(name, model, concurrency, kind)(one)) is not None]
        return min(found, default=None)

    return in_round


def runtime_rate(model: str, precision: str, largest_batch: int | None = None) -> InRound:
    """Images per second of the runtime alone, in its best layout at its best batch size up to the largest one."""

    def in_round(one: Round) -> float | None:
        found = [r for r in one.runtime_alone if (r.model, r.precision) == (model, precision)]
        return found[0].best_images_per_s(largest_batch) if found else None

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
