"""The servers to measure: ours, the alternatives and the HTTP baselines, with their commands and answer formats.

`bench.processes` runs them, `bench.load` puts them under load.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.alternatives.mlserver.repository import write_repository
from bench.environments import BASELINES, OURS, ROOT, WORK, Environment, of_alternative
from bench.processes import free_port
from bench.uploads import BodyKind

OUR_SERVER: Final = "ours"
BASELINE: Final = "plain_fastapi"
BFLOAT16_CPU_FEATURES: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
UVICORN_QUIET: Final = ("--no-access-log", "--log-level", "warning")
"""https://www.uvicorn.org/settings/, "Logging": benchmarks turn the access log off."""


@dataclass(frozen=True)
class Answer:
    """The predicted class of an image, and its probability."""

    class_id: int
    confidence: float


def read_answer(body: bytes) -> Answer:
    """Parse {"class_id", "confidence", …}."""
    answer = json.loads(body)
    return Answer(answer["class_id"], answer["confidence"])


@dataclass(frozen=True)
class Start:
    """The parameters of a server's start: its port, its model, and its own folder for writing."""

    port: int
    model: str
    models_folder: Path
    """models/NAME/VERSION, with only this version."""
    saved_model: Path
    """The version's folder."""
    scratch: Path


@dataclass(frozen=True)
class Server:
    """A server: its name in results and on the command line, its title, and how to run it.

    `precision` selects its runtime-alone baseline; None without one.
    """

    name: str
    title: str
    environment: Environment
    command: Callable[[Start], list[str]]
    path: str = "/predict"
    """{model} stands for the model's name."""
    ready_path: str = "/health"
    ready_processes: int = 1
    body: BodyKind = BodyKind.FORM
    read_answer: Callable[[bytes], Answer] = read_answer
    variables: Callable[[Start], Mapping[str, str]] = field(default=lambda _start: {})
    folder: Path = ROOT
    precision: str | None = None
    tolerance: float = 1e-3
    """Maximum difference of a probability from the golden one."""
    serves_models: bool = True
    """False for an HTTP baseline, which returns a constant."""


def _bentoml_answer(body: bytes) -> Answer:
    return read_answer(json.dumps(json.loads(body)[0]).encode())


def _v2_answer(body: bytes) -> Answer:
    probabilities = json.loads(body)["outputs"][0]["data"]
    class_id = max(range(len(probabilities)), key=probabilities.__getitem__)
    return Answer(class_id, probabilities[class_id])


def _ours(start: Start) -> list[str]:
    return [str(OURS.python), "-m", "service", "--port", str(start.port), "--models", str(start.models_folder)]


def _uvicorn(python: Path, app: str, port: int, processes: int = 1) -> list[str]:
    workers = ["--workers", str(processes)] if processes > 1 else []
    return [str(python), "-m", "uvicorn", app, "--port", str(port), *UVICORN_QUIET, *workers]


def _plain_fastapi(processes: int) -> Callable[[Start], list[str]]:
    python = of_alternative("plain_fastapi").python
    return lambda start: _uvicorn(python, "bench.alternatives.plain_fastapi.server:app", start.port, processes)


def _our_variables(_start: Start) -> dict[str, str]:
    return {"CIFAR10_COMPILED_MODELS": str(COMPILED_MODELS)}


def _litserve(start: Start) -> list[str]:
    folder = ROOT / "bench/alternatives/litserve"
    return [str(of_alternative("litserve").python), str(folder / "server.py"), str(start.port)]


def _bentoml(start: Start) -> list[str]:
    python = of_alternative("bentoml").python
    folder = ROOT / "bench/alternatives/bentoml"
    return [
        *(str(python), "-m", "bentoml", "serve", "classifier_service:Classifier", "--working-dir", str(folder)),
        *("--host", "127.0.0.1", "--port", str(start.port), "--quiet"),
    ]


def _mlserver(name: str, title: str, parallel_workers: int, variables: Callable[[Start], Mapping[str, str]]) -> Server:
    def command(start: Start) -> list[str]:
        folder = start.scratch / "mlserver"
        write_repository(
            folder,
            model=start.model,
            port=start.port,
            grpc_port=free_port(),
            metrics_port=free_port(),
            parallel_workers=parallel_workers,
        )
        return [str(of_alternative("mlserver").folder / "bin/mlserver"), "start", str(folder)]

    return Server(
        name,
        title,
        of_alternative("mlserver", "mlserver"),
        command,
        path="/v2/models/{model}/infer",
        ready_path="/v2/models/{model}/ready",
        body=BodyKind.V2_JSON,
        read_answer=_v2_answer,
        variables=variables,
    )


def _alternative_variables(start: Start) -> dict[str, str]:
    return {
        "PYTHONPATH": str(ROOT),
        "BENCH_SAVED_MODEL": str(start.saved_model),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # No telemetry; each server has its own switch.
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(WORK / "bentoml"),
    }


def _one_thread_a_process(start: Start) -> dict[str, str]:
    """Set one thread per process, for servers with one process per core: it was always faster than two threads."""
    return {**_alternative_variables(start), "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def _baseline(name: str, title: str) -> Server:
    return Server(
        name,
        title,
        BASELINES,
        lambda start: _uvicorn(BASELINES.python, f"bench.baselines.{name}:app", start.port),
        variables=lambda _start: {"PYTHONPATH": str(ROOT)},
        serves_models=False,
    )


COMPILED_MODELS: Final = WORK / "compiled-models"
"""Our server's compiled models; separate from the user's own cache, so that the first start of a run is a cold one."""

OUR_SERVERS: Final = (
    Server(
        OUR_SERVER,
        "cifar10-serving",
        OURS,
        _ours,
        "/predict?model={model}",
        "/readyz",
        variables=_our_variables,
        precision="float32",
    ),
    Server(
        "ours_bfloat16",
        "cifar10-serving, bfloat16",
        OURS,
        _ours,
        "/predict?model={model}",
        "/readyz",
        variables=lambda start: {**_our_variables(start), "CIFAR10_PRECISION": "bfloat16"},
        precision="bfloat16",
        tolerance=0.15,
    ),
)

ALTERNATIVES: Final = (
    Server(
        BASELINE,
        "plain FastAPI",
        of_alternative("plain_fastapi", "fastapi", "uvicorn"),
        _plain_fastapi(1),
        variables=_alternative_variables,
    ),
    Server(
        "plain_fastapi_2",
        "plain FastAPI, 2 processes",
        of_alternative("plain_fastapi", "fastapi", "uvicorn"),
        _plain_fastapi(2),
        ready_processes=2,
        variables=_one_thread_a_process,
    ),
    Server(
        "litserve",
        "LitServe",
        of_alternative("litserve", "litserve"),
        _litserve,
        variables=_one_thread_a_process,
    ),
    Server(
        "bentoml",
        "BentoML",
        of_alternative("bentoml", "bentoml"),
        _bentoml,
        ready_path="/readyz",
        read_answer=_bentoml_answer,
        variables=_one_thread_a_process,
    ),
    _mlserver("mlserver", "MLServer", 0, _alternative_variables),
    _mlserver("mlserver_2", "MLServer, 2 workers", 2, _one_thread_a_process),
)

HTTP_BASELINES: Final = (
    _baseline("bare_asgi", "bare ASGI server, constant answer"),
    _baseline("multipart_asgi", "the same, form parsed"),
)

SERVERS: Final = {server.name: server for server in (*OUR_SERVERS, *ALTERNATIVES, *HTTP_BASELINES)}
