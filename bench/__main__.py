"""Command line of the benchmark: `python -m bench`, see `--help`.

Chooses the models (by default all published ones), the servers (all that can be installed), the loads, the durations
and the output folder. `bench.rounds` measures, `bench.report` writes the results.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.environments import OURS, ROOT, WORK, install, versions
from bench.errors import BenchError
from bench.goals import GOAL_MODELS
from bench.load import require_wrk
from bench.loads import LOADS, SMALL
from bench.machine import commit, describe_machine, wrk_version
from bench.measurements import Machine, Results, read_results
from bench.report import ROUNDS, goals_table, write_report
from bench.rounds import Measuring, first_small_cnn
from bench.servers import SERVERS, Server, has_bfloat16
from bench.trials import RUNTIME_BATCHES, RUNTIME_SHARE, WARM_UP_SHARE, prepare
from cifar10_serving.artifacts.layout import published_models, published_versions, read_metadata, version_folder
from cifar10_serving.artifacts.metadata import Precision
from cifar10_serving.errors import ProjectError

CONCURRENCY: Final = (1, 8, 64)
SECONDS: Final = 5
ROUND_COUNT: Final = 3
QUICK_MODELS: Final = ("sequential", "mobilenetv2")
QUICK_SERVERS: Final = (
    "ours",
    "ours_default",
    "fastapi_openvino_2",
    "fastapi_openvino_2_default",
    "plain_fastapi",
    "multipart_asgi",
)
QUICK_LOADS: Final = (SMALL, "photo")
QUICK_SECONDS: Final = 2
LAYOUTS: Final = 2
COMPILE_S: Final = 4
START_AND_STOP_S: Final = 8
OURS_ONLY_S: Final = 30


@dataclass(frozen=True)
class Plan:
    """The scope of a run."""

    servers: tuple[str, ...]
    models: tuple[str, ...]
    loads: dict[str, tuple[int, ...]]
    """Kind of load -> concurrencies."""
    seconds: int
    rounds: int

    @property
    def estimate_s(self) -> float:
        """Estimated duration without installation; start-up times vary between machines."""
        load_s = self.seconds + max(1, round(self.seconds * WARM_UP_SHARE))
        small_s = len(self.loads.get(SMALL, ())) * load_s
        photographs_s = sum(
            len(at) * load_s * LOADS[kind].times_longer for kind, at in self.loads.items() if kind != SMALL
        )
        answering = sum(SERVERS[name].serves_models for name in self.servers)
        trials = answering * len(self.models) + len(self.servers) - answering
        precisions = {SERVERS[name].precision for name in self.servers} & {"float32", "bfloat16"}
        alone_s = LAYOUTS * (len(RUNTIME_BATCHES) * self.seconds * RUNTIME_SHARE + COMPILE_S)
        alone_s *= len(precisions) * len(self.models) if SMALL in self.loads else 0
        return self.rounds * (trials * (small_s + START_AND_STOP_S) + answering * photographs_s + alone_s + OURS_ONLY_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark or write a report; return 2 if it could not start."""
    parsed = command_line().parse_args(arguments)
    try:
        if parsed.report is not None:
            results = read_results(parsed.report)
            print(write_report(results, parsed.output or parsed.report.parent.parent))
            return 0
        return _measure(parsed, sys.argv[1:] if arguments is None else list(arguments))
    except (ProjectError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _measure(parsed: argparse.Namespace, arguments: Sequence[str]) -> int:
    require_wrk()
    folder = parsed.models_folder
    published = {name: published_versions(folder, name)[-1] for name in published_models(folder)}
    plan = plan_from(parsed, list(published))
    partial = (parsed.quick, parsed.servers, parsed.models, parsed.concurrency, parsed.loads, parsed.seconds)
    whole = not any(partial) and parsed.rounds is None and parsed.models_folder == ROOT / "models"
    # The results of a partial run go into docs/ only on request.
    output = parsed.output or (ROOT / "docs" if whole else WORK / "docs")
    machine = describe_machine()
    lowered = _not_evaluated_in("bfloat16", parsed.models_folder, {name: published[name] for name in plan.models})
    servers, unavailable = available(plan.servers, machine, lowered)
    print(f"this takes about {plan.estimate_s / 60:.0f} minutes", flush=True)
    bench = prepare(
        parsed.models_folder,
        {name: published[name] for name in plan.models},
        seconds=plan.seconds,
        loads=plan.loads,
        photograph_model=first_small_cnn(plan.models),
    )
    results = Results(
        date=datetime.now(UTC).date().isoformat(),
        commit=commit(),
        command=shlex.join(["make", "bench"] if whole else [".venv/bin/python", "-m", "bench", *arguments]),
        seconds=plan.seconds,
        concurrency=list(plan.loads.get(SMALL, ())),
        photograph_loads={kind: list(at) for kind, at in plan.loads.items() if kind != SMALL},
        servers=[server.name for server in servers],
        models=bench.versions,
        unpublished=[name for name in GOAL_MODELS if name not in published],
        unavailable=unavailable,
        versions={server.title: versions(server.environment) for server in servers} | {"load": {"wrk": wrk_version()}},
        machine=machine,
    )
    results = Measuring(bench, servers, results, output / ROUNDS).run(plan.rounds)
    print(goals_table(results))
    print(f"written: {write_report(results, output)}")
    return 0


def plan_from(parsed: argparse.Namespace, published: Sequence[str]) -> Plan:
    """Build the plan from the options and the published models.

    Raises:
        BenchError: a requested model isn't published, or nothing is.
    """
    quick = parsed.quick
    missing = [name for name in parsed.models or () if name not in published]
    if missing or not published:
        raise BenchError(
            f"not published in {parsed.models_folder}: {', '.join(missing) or 'any model'}",
            expected=f"some of {', '.join(published)}" if published else "models/NAME/VERSION/",
        )
    models = parsed.models or [name for name in published if not quick or name in QUICK_MODELS] or published
    loads = dict.fromkeys(parsed.loads or (QUICK_LOADS if quick else LOADS))
    return Plan(
        servers=tuple(dict.fromkeys(parsed.servers or (QUICK_SERVERS if quick else SERVERS))),
        models=tuple(models),
        loads={kind: tuple(parsed.concurrency or LOADS[kind].concurrency or CONCURRENCY) for kind in loads},
        seconds=parsed.seconds or (QUICK_SECONDS if quick else SECONDS),
        rounds=parsed.rounds or (1 if quick else ROUND_COUNT),
    )


def _not_evaluated_in(precision: Precision, models: Path, versions: dict[str, int]) -> list[str]:
    """List the versions without an evaluation in this precision, which our server doesn't load in it."""
    return [
        f"{name}/{version}"
        for name, version in versions.items()
        if precision not in read_metadata(version_folder(models, name, version)).golden.tolerance
    ]


def available(
    names: Sequence[str], machine: Machine, without_bfloat16: Sequence[str]
) -> tuple[list[Server], dict[str, str]]:
    """Return the servers that can be started here, and the reasons why others can't."""
    servers: list[Server] = []
    unavailable: dict[str, str] = {}
    for name in names:
        server = SERVERS[name]
        if not has_bfloat16(machine.cpu_features):
            if server.precision == "bfloat16":
                unavailable[name] = "this CPU has no bfloat16"
                continue
            if server.in_float32:
                unavailable[name] = f"this CPU has no bfloat16, so it would be {server.in_float32} again"
                continue
        if server.precision == "bfloat16" and without_bfloat16:
            unavailable[name] = f"not evaluated in bfloat16: {', '.join(without_bfloat16)}"
            continue
        try:
            install(server.environment)
            if server.environment is OURS and server.precision and not server.is_default:
                _require_precision(server.precision)
        except BenchError as error:
            unavailable[name] = str(error)
            print(f"{name}: {error}", file=sys.stderr, flush=True)
        else:
            servers.append(server)
    if not servers:
        raise BenchError("no server can be measured: " + "; ".join(f"{n}: {why}" for n, why in unavailable.items()))
    return servers, unavailable


def _require_precision(precision: str) -> None:
    """Check that our server's settings have a precision.

    Raises:
        BenchError: they don't.
    """
    program = (
        "import sys; from pydantic import TypeAdapter; from service.settings import Settings; "
        "TypeAdapter(Settings.model_fields['precision'].annotation).validate_python(sys.argv[1])"
    )
    command = [str(OURS.python), "-c", program, precision]
    if subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode:
        raise BenchError(f"the service has no precision {precision}")


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a part, in about 5 minutes: few servers and models, short loads"
    )
    parser.add_argument("--servers", nargs="+", choices=list(SERVERS), metavar="SERVER", help=", ".join(SERVERS))
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="default: all published")
    kinds = "; ".join(f"{kind.name}: {kind.title}" for kind in LOADS.values())
    parser.add_argument("--loads", nargs="+", choices=list(LOADS), metavar="LOAD", help=f"{kinds}; default: all")
    parser.add_argument(
        "--concurrency", nargs="+", type=_positive, metavar="N", help=f"default: {CONCURRENCY}; 12mp: 8"
    )
    parser.add_argument("--seconds", type=_positive, help=f"of each load; default: {SECONDS}")
    parser.add_argument("--rounds", type=_positive, help=f"default: {ROUND_COUNT}")
    parser.add_argument("--models-folder", type=Path, default=ROOT / "models", help="the published versions: models")
    parser.add_argument(
        "--output", type=Path, help="folder of performance.md: docs for the whole run, .bench/docs for a part of it"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report of a stored rounds.json again")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return number


if __name__ == "__main__":
    os.chdir(ROOT)
    # As an exception it also stops the running server.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    sys.exit(main())
