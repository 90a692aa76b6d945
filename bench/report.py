"""Write performance.md from stored rounds: goals, the best alternatives, a table for each model, machine and versions.

`bench.plot` draws the plot. Numbers are medians over the rounds; ratios are computed per round, then the median is
taken.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.comparisons import Comparison, comparisons
from bench.goals import judge
from bench.loads import LOADS
from bench.measurements import Results
from bench.plot import plot_rates
from bench.ratios import (
    DEFAULT,
    OURS_IN,
    InRound,
    binary_infer_ms,
    median,
    of_visit,
    over_rounds,
    p50_ms,
    p99_ms,
    peers,
    rate,
    rate_to_baseline,
    ratio,
    runtime_rate,
)
from bench.servers import BASELINE, HTTP_BASELINES, SERVERS, has_bfloat16
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
    found = comparisons(results)
    yield from _against_the_best(results, found)
    yield from _where_we_lose(found)
    if plotted:
        yield "## At a glance\n"
        yield f"![Requests/s as a multiple of plain FastAPI's, by model and concurrency]({PLOT})\n"
    yield from _baselines(results)
    yield from _binary_infer(results)
    if results.concurrency:
        for model in results.models:
            yield from _model(results, model)
    yield from _photographs(results)
    yield from _versions(results)


def _conditions(results: Results) -> Iterator[str]:
    machine = results.machine
    rounds = len(results.rounds)
    yield (
        f"- {results.date}, commit `{results.commit}`, {rounds} round{'' if rounds == 1 else 's'}.\n"
        f"- {machine.cpu}, {machine.cores} cores ({', '.join(machine.cpu_features)}), "
        f"{machine.memory_bytes / 2**30:.0f} GiB, {machine.system}. wrk ran on the same cores.\n"
        f"- Load: wrk, closed loop, {results.seconds:g} s at each concurrency after a warm-up. The requests alternate\n"
        "  between a 32x32 PNG and a 32x32 JPEG in the multipart field `file`, each with a boundary and a file name\n"
        "  of its own. MLServer gets V2 JSON with base64, the only form for which it batches. Triton gets V2 with the\n"
        "  encoded image in binary, and decodes it in its model.\n"
        "- Each server was started separately for each model. Before and after the load, its answers for ten images\n"
        "  were compared with `golden.npz`. The alternatives' settings are in `bench/alternatives/`, with links to\n"
        "  their documentation.\n"
        "- Ratios are computed per round; the tables show the median of the rounds. Resident memory is the sum over\n"
        "  the process tree, so memory that processes share is counted in each of them."
    )
    for kind, concurrencies in results.photograph_loads.items():
        yield (
            f"- {LOADS[kind].title}: golden images, enlarged and with detail added, at concurrency\n"
            f"  {', '.join(map(str, concurrencies))}. The class of each was checked before and after the load. The\n"
            "  alternatives decode and scale them with Pillow (`ImageOps.fit`)."
        )
    if not has_bfloat16(machine.cpu_features):
        yield (
            "- This CPU has no bfloat16, so what computes in float32 here is also what OpenVINO does by default. The\n"
            "  alternatives on OpenVINO were measured once, and count in both comparisons."
        )
    if results.unpublished:
        yield f"- Not measured, because not published: {', '.join(results.unpublished)}."
    for what, why in results.unavailable.items():
        yield f"- Not measured: {what}: {why}"
    yield ""


def _against_the_best(results: Results, found: Sequence[Comparison]) -> Iterator[str]:
    if not found:
        return
    yield "## Against the best alternative\n"
    yield (
        "Like is compared with like: each table has the servers that compute in one precision, and the last one has\n"
        "each server in the precision that it takes without being told. TensorFlow computes these models in float32;\n"
        "OpenVINO takes bfloat16 where the CPU has it.\n"
    )
    for precision in OURS_IN:
        rows = [one for one in found if one.precision == precision]
        if not rows:
            continue
        yield "### By default\n" if precision == DEFAULT else f"### {precision}\n"
        yield f"Compared with: {', '.join(SERVERS[name].title for name in peers(results, precision))}.\n"
        yield table(
            [
                *("load", "model", "concurrency", "cifar10-serving, requests/s", "best alternative", "its requests/s"),
                *("times", "p99 ms", "lowest p99 ms of the alternatives"),
            ],
            [
                [
                    *(LOADS[one.load].title, one.model, str(one.concurrency), f"{one.ours_per_s:,.0f}", one.best),
                    *(f"{one.best_per_s:,.0f}", f"{one.times:.2f}", f"{one.ours_p99_ms:,.2f}"),
                    f"{one.lowest_p99_ms:,.2f}",
                ]
                for one in rows
            ],
        )


def _where_we_lose(found: Sequence[Comparison]) -> Iterator[str]:
    if not found:
        return
    yield "## Where we lose\n"
    slower = [one for one in found if one.times < 1]
    later = [one for one in found if one.ours_p99_ms > one.lowest_p99_ms]
    if slower:
        yield "Fewer requests/s than the best alternative:\n"
        yield "".join(f"- {one.where}: {one.times:.2f} times {one.best}.\n" for one in slower)
    else:
        yield "In requests/s: nowhere in this run.\n"
    if later:
        yield "A higher p99 than that of the alternative where it is the lowest:\n"
        yield "".join(f"- {one.where}: {one.ours_p99_ms:,.2f} ms, not {one.lowest_p99_ms:,.2f} ms.\n" for one in later)
    else:
        yield "In p99: nowhere in this run.\n"
    yield "The goals that were not met are in the table above.\n"


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
    batches = [*(at for at in results.concurrency if at > 1), None]
    rows = [
        [
            *(title_of[model], precision, "any" if batch is None else str(batch)),
            _number(results, runtime_rate(model, precision, batch), "{:,.0f}"),
        ]
        for model in results.models
        for precision in precisions
        for batch in batches
    ]
    if precisions:
        yield (
            "The runtime without a server, in the better of two layouts (one call on all cores, a call on each core),\n"
            "at the best batch size up to a concurrency.\n"
        )
        yield table(["runtime only", "precision", "batches up to", "images/s"], rows)


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


def _photographs(results: Results) -> Iterator[str]:
    for kind, concurrencies in results.photograph_loads.items():
        rows = [
            [
                *(SERVERS[name].title, model, str(concurrency)),
                _number(results, rate(name, model, concurrency, kind), "{:,.0f}"),
                _number(results, p50_ms(name, model, concurrency, kind), "{:,.2f}"),
                _number(results, p99_ms(name, model, concurrency, kind), "{:,.2f}"),
                str(sum(load.errors for load in loads)),
            ]
            for model in results.models
            for name in results.servers
            for concurrency in concurrencies
            if (loads := [load for one in results.rounds if (load := one.load(name, model, concurrency, kind))])
        ]
        if rows:
            yield f"## {LOADS[kind].title}\n"
            yield table(["server", "model", "concurrency", "requests/s", "p50 ms", "p99 ms", "errors"], rows)


def _load_row(results: Results, name: str, model: str, concurrency: int) -> list[str]:
    ours = rate(name, model, concurrency)
    precision = SERVERS[name].computes_in(results.machine.cpu_features)
    loads = [load for one in results.rounds if (load := one.load(name, model, concurrency))]
    return [
        SERVERS[name].title,
        str(concurrency),
        _number(results, ours, "{:,.0f}"),
        _number(results, rate_to_baseline(name, model, concurrency), "{:.2f}"),
        _number(results, ratio(ours, rate("bare_asgi", None, concurrency)), "{:.3f}"),
        _number(results, ratio(ours, runtime_rate(model, precision, concurrency)), "{:.3f}") if precision else "",
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
