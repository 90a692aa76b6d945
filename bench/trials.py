"""A trial of one server: start, check its answers, warm up, load at each concurrency, stop.

Also the parts of a round without comparison: the runtime alone, our server with all published versions, and our server
under overload. `bench.rounds` sets the order.
"""

import http
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.binary_infer import binary_infer
from bench.environments import OURS, ROOT, WORK
from bench.errors import BenchError
from bench.load import Target, run_wrk
from bench.measurements import Load, Overload, RuntimeAlone, Trial, WholeStart
from bench.open_loop import run_open_loop
from bench.processes import Running, free_port, post, running, tail
from bench.servers import COMPILED_MODELS, OUR_SERVER, SERVERS, Server, Start
from bench.uploads import BodyKind, Upload, body, golden_images, varied_uploads, write_bodies
from cifar10_serving.artifacts.layout import published_models

IMAGES: Final = ROOT / "tests/images"
RUNTIME_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
IMPORT_TIMES: Final = 5
OVERLOAD_FACTOR: Final = 3
WARM_UP_SHARE: Final = 0.3
LIGHT_CONCURRENCY: Final = 8


@dataclass(frozen=True)
class Bench:
    """The settings that all trials of a run share: duration of each load, concurrencies, uploads."""

    models_folder: Path
    versions: dict[str, int]
    """Model -> measured version, the newest."""
    seconds: float
    concurrency: tuple[int, ...]
    uploads: list[Upload]

    def version_folder(self, model: str) -> Path:
        """Return the folder of a model's measured version."""
        return self.models_folder / model / str(self.versions[model])


def prepare(models_folder: Path, versions: dict[str, int], *, seconds: float, concurrency: tuple[int, ...]) -> Bench:
    """Create the uploads, and for each model a models folder with only the measured version, below .bench/."""
    folders = [models_folder / model / str(version) for model, version in versions.items()]
    bench = Bench(models_folder, versions, seconds, concurrency, varied_uploads(IMAGES, folders))
    shutil.rmtree(WORK / "bodies", ignore_errors=True)
    for kind in BodyKind:
        write_bodies(_bodies(kind), bench.uploads, kind)
    shutil.rmtree(WORK / "models", ignore_errors=True)
    for model in versions:
        shutil.copytree(bench.version_folder(model), _alone(bench, model))
    return bench


def trial(bench: Bench, server: Server, model: str | None) -> Trial:
    """Measure a server with a model; a failure is stored in the result, not raised."""
    loads: dict[int, Load] = {}
    told: dict[str, float | int] = {}
    failure = binary = None
    name = model or next(iter(bench.versions))
    try:
        with _started(bench, server, name) as server_process:
            told = {"ready_s": server_process.ready_s, "rss_ready_bytes": server_process.rss_bytes}
            if server.serves_models:
                check_answers(bench, server, server_process, name)
            target = _target(bench, server, server_process, name)
            for concurrency in bench.concurrency:
                run_wrk(target, concurrency=concurrency, seconds=bench.seconds * WARM_UP_SHARE)
                loads[concurrency] = run_wrk(target, concurrency=concurrency, seconds=bench.seconds)
            told["rss_loaded_bytes"] = server_process.rss_bytes
            if server.name == OUR_SERVER:
                binary = binary_infer(server_process, name, bench.version_folder(name), seconds=bench.seconds)
    except BenchError as error:
        failure = str(error)
    return Trial(server=server.name, model=model, loads=loads, binary_infer=binary, failure=failure, **told)


def check_answers(bench: Bench, server: Server, process: Running, model: str) -> None:
    """Check that a server's answers for the shipped images are the golden ones.

    Raises:
        BenchError: an answer is wrong or missing.
    """
    for golden in golden_images(IMAGES, bench.version_folder(model)):
        try:
            status, content = post(
                process.port, server.path.format(model=model), body(golden.upload, server.body), server.body.value
            )
        except OSError as error:
            raise BenchError(f"{server.name} with {model} does not answer: {error}: {tail(process.log)}") from None
        if status != http.HTTPStatus.OK:
            raise BenchError(f"{server.name} with {model} answers {status}: {content[:200]!r}: {tail(process.log)}")
        answer = server.read_answer(content)
        wanted = float(golden.probabilities[answer.class_id])
        if (
            abs(answer.confidence - wanted) > server.tolerance
            or wanted < golden.probabilities.max() - 2 * server.tolerance
        ):
            raise BenchError(
                f"{server.name} with {model} answers class {answer.class_id} with {answer.confidence:.4f}",
                expected=f"class {int(golden.probabilities.argmax())} with {golden.probabilities.max():.4f}",
            )


def runtime_alone(bench: Bench, model: str, precision: str) -> RuntimeAlone:
    """Measure the runtime without a server, in our server's environment.

    Raises:
        BenchError: it failed.
    """
    program = ROOT / "bench/baselines/runtime_alone.py"
    command = [str(OURS.python), str(program), str(bench.version_folder(model)), precision, str(bench.seconds / 4)]
    result = subprocess.run(
        [*command, *map(str, RUNTIME_BATCHES)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if result.returncode != 0:
        raise BenchError(f"the runtime alone failed with {model} in {precision}: {result.stderr.strip()[-300:]}")
    seen = json.loads(result.stdout.splitlines()[-1])
    return RuntimeAlone(model=model, precision=precision, images_per_s=seen["images_per_s"])


def whole_start(bench: Bench) -> WholeStart:
    """Measure our server with all published versions: its first and next start, memory, import of the application.

    Raises:
        BenchError: it doesn't start.
    """
    server = SERVERS[OUR_SERVER]
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
    server = SERVERS[OUR_SERVER]
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
    port = free_port()
    version = bench.versions[model]
    folder = models_folder or _alone(bench, model).parent.parent
    start = Start(port, model, folder, _alone(bench, model), WORK / "scratch" / server.name)
    shutil.rmtree(start.scratch, ignore_errors=True)
    with running(
        server.command(start),
        port=port,
        ready_path=server.ready_path.format(model=model, version=version),
        ready_processes=server.ready_processes,
        variables=server.variables(start),
        folder=server.folder,
        log=WORK / "logs" / f"{server.name}.{model}.log",
    ) as process:
        yield process


def _target(bench: Bench, server: Server, process: Running, model: str) -> Target:
    url = f"http://127.0.0.1:{process.port}{server.path.format(model=model)}"
    return Target(url, _bodies(server.body), len(bench.uploads), server.body.value)


def _bodies(kind: BodyKind) -> Path:
    return WORK / "bodies" / kind.name.lower()


def _alone(bench: Bench, model: str) -> Path:
    return WORK / "models" / model / "only" / model / str(bench.versions[model])
