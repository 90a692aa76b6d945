"""A trial of one server: start, check its answers, warm up, load at each concurrency, stop.

Also the parts of a round without comparison: the runtime alone, our server with all published versions, and our server
under overload. `bench.rounds` sets the order.
"""

import http
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.binary_infer import binary_infer
from bench.environments import OURS, ROOT, WORK
from bench.errors import BenchError
from bench.load import Target, run_wrk
from bench.loads import LOADS, SMALL
from bench.measurements import Load, Overload, RuntimeAlone, Trial, WholeStart
from bench.open_loop import run_open_loop
from bench.photographs import Photograph, photographs
from bench.processes import Running, free_port, post, running, tail
from bench.servers import COMPILED_MODELS, OUR_DEFAULT, OUR_SERVER, SERVERS, Answer, Server, Start
from bench.uploads import (
    BodyKind,
    Upload,
    body,
    golden_images,
    new_mark,
    varied_uploads,
    with_mark,
    write_bodies,
)
from cifar10_serving.artifacts.layout import published_models

IMAGES: Final = ROOT / "tests/images"
RUNTIME_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
CHECKS_AT_ONCE: Final = 8
IMPORT_TIMES: Final = 5
OVERLOAD_FACTOR: Final = 3
WARM_UP_SHARE: Final = 0.3
RUNTIME_SHARE: Final = 0.25
LIGHT_CONCURRENCY: Final = 8


@dataclass(frozen=True)
class Bench:
    """The settings that all trials of a run share: duration of each load, loads, uploads."""

    models_folder: Path
    versions: dict[str, int]
    """Model -> measured version, the newest."""
    seconds: float
    loads: dict[str, tuple[int, ...]]
    """Kind of load -> concurrencies."""
    uploads: list[Upload]
    photographs: dict[str, list[Photograph]]
    """Kind of load -> photographs, of which the photograph model is sure."""
    photograph_model: str

    def version_folder(self, model: str) -> Path:
        """Return the folder of a model's measured version."""
        return self.models_folder / model / str(self.versions[model])


def prepare(
    models_folder: Path,
    versions: dict[str, int],
    *,
    seconds: float,
    loads: dict[str, tuple[int, ...]],
    photograph_model: str,
) -> Bench:
    """Create the uploads, and for each model a models folder with only the measured version, below .bench/."""
    folders = [models_folder / model / str(version) for model, version in versions.items()]
    found = {}
    for name in loads:
        if form := LOADS[name].photographs:
            version = models_folder / photograph_model / str(versions[photograph_model])
            print(f"making photographs: {LOADS[name].title}", flush=True)
            found[name] = photographs(version, form, LOADS[name].count)
    bench = Bench(models_folder, versions, seconds, loads, varied_uploads(IMAGES, folders), found, photograph_model)
    shutil.rmtree(WORK / "bodies", ignore_errors=True)
    for kind in BodyKind:
        for name in {SMALL, *loads}:
            write_bodies(_bodies(name, kind), _uploads(bench, name), kind)
    shutil.rmtree(WORK / "models", ignore_errors=True)
    for model in versions:
        shutil.copytree(bench.version_folder(model), _alone(bench, model))
    return bench


def trial(bench: Bench, server: Server, model: str | None) -> Trial:
    """Measure a server with a model; a failure is stored in the result, not raised."""
    loads: dict[str, dict[int, Load]] = {}
    told: dict[str, float | int] = {}
    failure = binary = None
    name = model or next(iter(bench.versions))
    try:
        with _started(bench, server, name) as process:
            told = {"ready_s": process.ready_s, "rss_ready_bytes": process.rss_bytes}
            for kind, concurrencies in bench.loads.items():
                if kind != SMALL and model != bench.photograph_model:
                    continue
                _check(bench, server, process, name, kind)
                target = _target(bench, server, process, name, kind)
                seconds = bench.seconds * LOADS[kind].times_longer
                for concurrency in concurrencies:
                    run_wrk(target, concurrency=concurrency, seconds=seconds * WARM_UP_SHARE)
                    load = run_wrk(target, concurrency=concurrency, seconds=seconds)
                    loads.setdefault(kind, {})[concurrency] = load
                _check(bench, server, process, name, kind)
            told["rss_loaded_bytes"] = process.rss_bytes
            if server.name == OUR_SERVER and SMALL in bench.loads:
                binary = binary_infer(process, name, bench.version_folder(name), seconds=bench.seconds)
    except BenchError as error:
        failure = str(error)
    small = loads.pop(SMALL, {})
    return Trial(
        server=server.name,
        model=model,
        loads=small,
        photograph_loads=loads,
        binary_infer=binary,
        failure=failure,
        **told,
    )


def _check(bench: Bench, server: Server, process: Running, model: str, kind: str) -> None:
    if not server.serves_models:
        return
    if kind == SMALL:
        check_answers(bench, server, process, model)
    else:
        check_classes(bench.photographs[kind], server, process, model)


def check_answers(bench: Bench, server: Server, process: Running, model: str) -> None:
    """Check that a server's answers for the shipped images, several at once, are the golden ones.

    Raises:
        BenchError: an answer is wrong or missing.
    """
    found = golden_images(IMAGES, bench.version_folder(model))
    answers = ask_all(server, process, model, [golden.upload for golden in found])
    for golden, answer in zip(found, answers, strict=True):
        wanted = float(golden.probabilities[answer.class_id])
        if (
            abs(answer.confidence - wanted) > server.tolerance
            or wanted < golden.probabilities.max() - 2 * server.tolerance
        ):
            raise BenchError(
                f"{server.name} with {model} answers class {answer.class_id} with {answer.confidence:.4f}",
                expected=f"class {int(golden.probabilities.argmax())} with {golden.probabilities.max():.4f}",
            )


def check_classes(found: Sequence[Photograph], server: Server, process: Running, model: str) -> None:
    """Check that a server's answers for photographs, several at once, have the right class.

    Raises:
        BenchError: an answer is wrong or missing.
    """
    answers = ask_all(server, process, model, [photograph.upload for photograph in found])
    for photograph, answer in zip(found, answers, strict=True):
        if answer.class_id != photograph.class_id:
            raise BenchError(
                f"{server.name} with {model} answers class {answer.class_id} for a photograph",
                expected=f"class {photograph.class_id}",
            )


def ask_all(server: Server, process: Running, model: str, uploads: Sequence[Upload]) -> list[Answer]:
    """Send uploads, several at once; return the answers in the same order.

    Raises:
        BenchError: an answer is missing.
    """

    def ask(upload: Upload) -> Answer:
        mark = new_mark()
        content = with_mark(body(upload, server.body), mark)
        media_type = with_mark(server.body.value.encode(), mark).decode()
        headers = {"Content-Type": media_type, **server.body.headers}
        try:
            status, answer = post(process.port, server.path.format(model=model), content, headers)
        except OSError as error:
            raise BenchError(f"{server.name} with {model} does not answer: {error}: {tail(process.log)}") from None
        if status != http.HTTPStatus.OK:
            raise BenchError(f"{server.name} with {model} answers {status}: {answer[:200]!r}: {tail(process.log)}")
        return server.read_answer(answer)

    with ThreadPoolExecutor(CHECKS_AT_ONCE) as threads:
        return list(threads.map(ask, uploads))


def runtime_alone(bench: Bench, model: str, precision: str) -> RuntimeAlone:
    """Measure the runtime without a server, in our server's environment.

    Raises:
        BenchError: it failed.
    """
    program = ROOT / "bench/baselines/runtime_alone.py"
    seconds = str(bench.seconds * RUNTIME_SHARE)
    command = [str(OURS.python), str(program), str(bench.version_folder(model)), precision, seconds]
    result = subprocess.run(
        [*command, *map(str, RUNTIME_BATCHES)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if result.returncode != 0:
        raise BenchError(f"the runtime alone failed with {model} in {precision}: {result.stderr.strip()[-300:]}")
    rates = json.loads(result.stdout.splitlines()[-1])["images_per_s"]
    return RuntimeAlone(
        model=model,
        precision=precision,
        images_per_s=rates["one_call"],
        call_a_core_images_per_s=rates["call_a_core"],
    )


def whole_start(bench: Bench) -> WholeStart:
    """Measure our server with all published versions: its first and next start, memory, import of the application.

    Raises:
        BenchError: it doesn't start.
    """
    server = SERVERS[OUR_DEFAULT]
    program = "import time; start = time.perf_counter(); import service.app; print(time.perf_counter() - start)"
    times = [
        float(subprocess.run([str(OURS.python), "-c", program], cwd=ROOT, capture_output=True, check=True).stdout)
        for _ in range(IMPORT_TIMES + 1)
    ][1:]  # the first import may compile
    models = published_models(bench.models_folder)
    shutil.rmtree(COMPILED_MODELS, ignore_errors=True)
    name = next(iter(bench.versions))
    with _started(bench, server, name, bench.models_folder) as process:
        first_ready_s = process.ready_s
    with _started(bench, server, name, bench.models_folder) as process:
        ready_bytes = process.rss_bytes
        for model in models:
            target = _target(bench, server, process, model)
            run_wrk(target, concurrency=LIGHT_CONCURRENCY, seconds=bench.seconds * WARM_UP_SHARE)
        return WholeStart(
            models=models,
            first_ready_s=first_ready_s,
            ready_s=process.ready_s,
            rss_ready_bytes=ready_bytes,
            rss_loaded_bytes=process.rss_bytes,
            import_s=times,
        )


def overload(bench: Bench, model: str, capacity_per_s: float) -> Overload:
    """Measure our server at three times its capacity.

    Raises:
        BenchError: the server or the client failed.
    """
    server = SERVERS[OUR_DEFAULT]
    with _started(bench, server, model) as process:
        target = _target(bench, server, process, model)
        run_wrk(target, concurrency=LIGHT_CONCURRENCY, seconds=bench.seconds * WARM_UP_SHARE)
        return run_open_loop(
            target,
            model=model,
            capacity_per_s=capacity_per_s,
            wanted_per_s=capacity_per_s * OVERLOAD_FACTOR,
            seconds=bench.seconds,
        )


@contextmanager
def _started(bench: Bench, server: Server, model: str, models_folder: Path | None = None) -> Iterator[Running]:
    folder = models_folder or _alone(bench, model).parent.parent
    with started(server, model, folder, _alone(bench, model)) as process:
        yield process


@contextmanager
def started(server: Server, model: str, models_folder: Path, version: Path) -> Iterator[Running]:
    """Run a server until the block ends; it is ready when the block starts.

    Args:
        server: the server.
        model: the model's name.
        models_folder: the folder that our server gets.
        version: the version's folder, which the others get.
    """
    start = Start(free_port(), model, models_folder, version, WORK / "scratch" / server.name)
    shutil.rmtree(start.scratch, ignore_errors=True)
    with running(
        server.command(start),
        port=start.port,
        ready_path=server.ready_path.format(model=model, version=version.name),
        ready_processes=server.ready_processes,
        variables=server.variables(start),
        folder=server.folder,
        log=WORK / "logs" / f"{server.name}.{model}.log",
    ) as process:
        yield process


def _target(bench: Bench, server: Server, process: Running, model: str, kind: str = SMALL) -> Target:
    url = f"http://127.0.0.1:{process.port}{server.path.format(model=model)}"
    count = len(_uploads(bench, kind))
    return Target(url, _bodies(kind, server.body), count, server.body.value, server.body.headers)


def _uploads(bench: Bench, kind: str) -> list[Upload]:
    return bench.uploads if kind == SMALL else [photograph.upload for photograph in bench.photographs[kind]]


def _bodies(kind: str, body_kind: BodyKind) -> Path:
    return WORK / "bodies" / kind / body_kind.name.lower()


def _alone(bench: Bench, model: str) -> Path:
    return WORK / "models" / model / "only" / model / str(bench.versions[model])
