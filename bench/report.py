"""Write performance.md from stored rounds: goals, a table for each model, machine and package versions.

`bench.plot` draws the plot. Numbers are medians over the rounds; ratios are computed per round, then the median is
taken.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.goals import judge
from bench.measurements import Results
from bench.plot import plot_rates
from bench.ratios import (
    InRound,
    binary_infer_ms,
    median,
    of_visit,
    over_rounds,
    p50_ms,
    p99_ms,
    rate,
    rate_to_baseline,
    ratio,
    runtime_rate,
)
from bench.servers import BASELINE, HTTP_BASELINES, SERVERS
from bench.titles import titles

REPORT: Final = "performance.md"
ROUNDS: Final = "performance/rounds.json"
PLOT: Final = "performance/rates.svg"


def write_report(results: Results, folder: Path) -> Path:
    """Write performance.md and its plot to a folder; return the document's path."""
    plotted = plot_rates(results, folder / PLOT)
    document = folder / REPORT
    document.write_text("\n".join(_document(results, plotted=plotted)), encoding="utf-8")
    return document


def goals_table(results: Results) -> str:
    """Return a table of the goals and the measured values."""
    rows = [
        [judged.goal.text, judged.goal.wanted, judged.measured, judged.worst, f"**{judged.verdict.value}**"]
        for judged in judge(results)
    ]
    return table(["goal", "wanted", "median of the rounds", "worst round", ""], rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(heads), ["---"] * len(heads), *map(list, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _document(results: Results, *, plotted: bool) -> Iterator[str]:
    yield "# Performance\n"
    yield (
        "This page compares the service with other ways to serve the same SavedModel. The servers were measured in\n"
        f"turn on the same machine. `python -m bench` writes this page from [rounds.json]({ROUNDS}). To repeat the\n"
        f"measurement, run\n\n```\n{results.command}\n```\n"
    )
    yield from _conditions(results)
    yield "## Goals\n"
    yield "The median of the rounds decides. Values are compared unrounded, and shown rounded towards the worse side.\n"
    yield goals_table(results)
    if plotted:
        yield "## At a glance\n"
        yield f"![Requests/s as a multiple of plain FastAPI's, by model and concurrency]({PLOT})\n"
    yield from _baselines(results)
    yield from _binary_infer(results)
    for model in results.models:
        yield from _model(results, model)
    yield from _versions(results)


def _conditions(results: Results) -> Iterator[str]:
    machine = results.machine
    rounds = len(results.rounds)
    yield (
        f"- {results.date}, commit `{results.commit}`, {rounds} round{'' if rounds == 1 else 's'}.\n"
        f"- {machine.cpu}, {machine.cores} cores ({', '.join(machine.cpu_features)}), "
        f"{machine.memory_bytes / 2**30:.0f} GiB, {machine.system}. wrk ran on the same cores.\n"
        f"- Load: wrk, closed loop, {results.seconds:g} s at each concurrency after a warm-up. The requests alternate\n"
        "  between a 32x32 PNG and a 32x32 JPEG in the multipart field `file`. MLServer gets V2 JSON with base64, the\n"
        "  only form for which it batches.\n"
        "- Each server was started separately for each model. Before the load, its answers for ten images were\n"
        "  compared with `golden.npz`. The alternatives' settings are in `bench/alternatives/`, with links to their\n"
        "  documentation.\n"
        "- Ratios are computed per round; the tables show the median of the rounds. Resident memory is the sum over\n"
        "  the process tree, so memory that processes share is counted in each of them."
    )
    if results.unpublished:
        yield f"- Not measured, because not published: {', '.join(results.unpublished)}."
    for what, why in results.unavailable.items():
        yield f"- Not measured: {what}: {why}"
    yield ""


def _baselines(results: Results) -> Iterator[str]:
    yield "## Baselines\n"
    rows = [
        [
            server.title,
            str(concurrency),
            _number(results, rate(server.name, None, concurrency), "{:,.0f}"),
            _number(results, p50_ms(server.name, None, concurrency), "{:,.2f}"),
            _number(results, p99_ms(server.name, None, concurrency), "{:,.2f}"),
        ]
        for server in HTTP_BASELINES
        if server.name in results.servers
        for concurrency in results.concurrency
    ]
    if rows:
        yield table(["HTTP only", "concurrency", "requests/s", "p50 ms", "p99 ms"], rows)
    title_of = titles(results.models)
    precisions = sorted({found.precision for one in results.rounds for found in one.runtime_alone}, reverse=True)
    yield table(
        ["runtime only, images/s at its best batch size", *precisions],
        [
            [title_of[model], *(_number(results, runtime_rate(model, p), "{:,.0f}") for p in precisions)]
            for model in results.models
        ],
    )


def _binary_infer(results: Results) -> Iterator[str]:
    fields, title_of = ("client_ms", "service_ms", "runtime_ms"), titles(results.models)
    rows = [
        [
            title_of[model],
            *(_number(results, binary_infer_ms(model, field), "{:,.2f}") for field in fields),
            *(
                _number(results, ratio(binary_infer_ms(model, field), binary_infer_ms(model, "runtime_ms")), "{:.3f}")
                for field in fields[:2]
            ),
        ]
        for model in results.models
        if over_rounds(results, binary_infer_ms(model, "client_ms"))
    ]
    if rows:
        yield "## V2 binary infer of 32 images\n"
        yield (
            "One request at a time on one connection. The columns are mean times over the same requests: seen by the\n"
            "client, inside the service, and of the call of the runtime.\n"
        )
        yield table(["model", "client, ms", "service, ms", "runtime call, ms", "client / call", "service / call"], rows)


def _model(results: Results, model: str) -> Iterator[str]:
    yield f"## {titles([model])[model]}\n"
    names = [name for name in results.servers if SERVERS[name].serves_models]
    yield table(
        [
            *("server", "concurrency", "requests/s", "vs plain FastAPI", "vs bare ASGI", "vs the runtime only"),
            *("p50 ms", "vs plain FastAPI", "p99 ms", "vs plain FastAPI", "errors"),
        ],
        [_load_row(results, name, model, concurrency) for name in names for concurrency in results.concurrency],
    )
    yield table(
        [
            "server",
            "start until ready, s",
            "vs plain FastAPI",
            "memory, MB",
            "vs plain FastAPI",
            "memory after load, MB",
        ],
        [_start_row(results, name, model) for name in names],
    )


def _load_row(results: Results, name: str, model: str, concurrency: int) -> list[str]:
    ours = rate(name, model, concurrency)
    precision = SERVERS[name].precision or "float32"
    loads = [load for one in results.rounds if (load := one.load(name, model, concurrency))]
    return [
        SERVERS[name].title,
        str(concurrency),
        _number(results, ours, "{:,.0f}"),
        _number(results, rate_to_baseline(name, model, concurrency), "{:.2f}"),
        _number(results, ratio(ours, rate("bare_asgi", None, concurrency)), "{:.3f}"),
        _number(results, ratio(ours, runtime_rate(model, precision)), "{:.3f}"),
        _number(results, p50_ms(name, model, concurrency), "{:,.2f}"),
        _to_baseline(results, p50_ms(name, model, concurrency), p50_ms(BASELINE, model, concurrency)),
        _number(results, p99_ms(name, model, concurrency), "{:,.2f}"),
        _to_baseline(results, p99_ms(name, model, concurrency), p99_ms(BASELINE, model, concurrency)),
        str(sum(load.errors for load in loads)) if loads else "",
    ]


def _start_row(results: Results, name: str, model: str) -> list[str]:
    cells = [SERVERS[name].title]
    for field, scale in (("ready_s", 1.0), ("rss_ready_bytes", 1e6)):
        value = of_visit(name, model, field)
        cells += [
            _number(results, value, "{:,.2f}" if scale == 1 else "{:,.0f}", scale),
            _to_baseline(results, value, of_visit(BASELINE, model, field)),
        ]
    return [*cells, _number(results, of_visit(name, model, "rss_loaded_bytes"), "{:,.0f}", 1e6)]


def _versions(results: Results) -> Iterator[str]:
    yield "## Versions\n"
    yield table(
        ["server", "versions"],
        [
            [name, ", ".join(f"{package} {version}" for package, version in packages.items())]
            for name, packages in results.versions.items()
        ]
        + [["models", ", ".join(f"{name} {version}" for name, version in results.models.items())]],
    )


def _to_baseline(results: Results, value: InRound, baseline: InRound) -> str:
    return _number(results, ratio(value, baseline), "{:.2f}")


def _number(results: Results, value: InRound, form: str, scale: float = 1.0) -> str:
    found = median(over_rounds(results, value))
    return "" if found is None else form.format(found / scale)
