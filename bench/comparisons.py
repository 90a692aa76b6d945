"""Compare our server with the best alternative in the same precision, for each load, model and concurrency."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.loads import LOADS, SMALL
from bench.measurements import Results
from bench.ratios import (
    DEFAULT,
    OURS_IN,
    best_rate,
    lowest_p99_ms,
    median,
    over_rounds,
    p99_ms,
    peers,
    rate,
    ratio,
)
from bench.servers import SERVERS
from bench.titles import titles


@dataclass(frozen=True)
class Comparison:
    """Our server and the best alternative in one precision, with one model, load and concurrency; over the rounds."""

    precision: str
    load: str
    model: str
    concurrency: int
    ours_per_s: float
    best: str
    """The title of the alternative whose median is the highest."""
    best_per_s: float
    times: float
    ours_p99_ms: float
    lowest_p99_ms: float

    @property
    def where(self) -> str:
        """The model, load, precision and concurrency in words."""
        load = "" if self.load == SMALL else f" with {LOADS[self.load].title}"
        precision = "by default" if self.precision == DEFAULT else f"in {self.precision}"
        return f"{self.model}{load}, {precision}, at concurrency {self.concurrency}"


def comparisons(results: Results) -> list[Comparison]:
    """Compare wherever our server and an alternative were measured in the same precision."""
    loads: list[tuple[str | None, Sequence[int]]] = [(None, results.concurrency), *results.photograph_loads.items()]
    title_of = titles(results.models)
    found = []
    for precision, ours in OURS_IN.items():
        others = peers(results, precision)
        for kind, concurrencies in loads:
            for model in results.models:
                for concurrency in concurrencies:
                    where = (model, concurrency, kind)
                    best = best_rate(others, *where)
                    values = [
                        median(over_rounds(results, value))
                        for value in (
                            rate(ours, *where),
                            best,
                            ratio(rate(ours, *where), best),
                            p99_ms(ours, *where),
                            lowest_p99_ms(others, *where),
                        )
                    ]
                    known = [value for value in values if value is not None]
                    if len(known) < len(values):
                        continue
                    rates = {name: median(over_rounds(results, rate(name, *where))) or 0.0 for name in others}
                    found.append(
                        Comparison(
                            precision=precision,
                            load=kind or SMALL,
                            model=title_of[model],
                            concurrency=concurrency,
                            ours_per_s=known[0],
                            best=SERVERS[max(rates, key=rates.__getitem__)].title,
                            best_per_s=known[1],
                            times=known[2],
                            ours_p99_ms=known[3],
                            lowest_p99_ms=known[4],
                        )
                    )
    return found
