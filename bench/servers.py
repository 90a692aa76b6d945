"""What there is to measure: our server, the alternatives and the HTTP floors; how each is started and answers.

Running them is `bench.processes`' part, loading them `bench.load`'s.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.alternatives.mlserver.repository import write_repository
from bench.environments import FLOORS, OURS, ROOT, WORK, Environment, of_alternative
from bench.processes import free_port
from bench.uploads import BodyKind

OUR_SERVER: Final = "ours"
BASELINE: Final = "plain_fastapi"
BFLOAT16_CPU_FEATURES: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
UVICORN_QUIET: Final = ("--no-access-log", "--log-level", "warning")
"""https://www.uvicorn.org/settings/, "Logging": a line for each request is what a benchmark leaves out."""


@dataclass(frozen=True)
class Answer:
    """The class that a server gave an image, and its probability."""

    class_id: int
    confidence: float


def read_answer(body: bytes) -> Answer:
    """From {"class_id", "confidence", …}."""
    answer = json.loads(body)
    return Answer(answer["class_id"], answer["confidence"])


@dataclass(frozen=True)
class Start:
    """One start of a server: where it listens, what it serves, and a folder of its own to write to."""

    port: int
    model: str
    models_folder: Path
    """models/NAME/VERSION, with this one version only."""
    saved_model: Path
    """The version's folder."""
    scratch: Path


@dataclass(frozen=True)
class Server:
    """One server: its name in results and on the command line, its title for people, how it is run.

    `precision` says which runtime-alone floor is its own; None where there is none.
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
    """How far a probability may be from the golden one."""
    serves_models: bool = True
    """False for a floor, which answers a constant."""


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
        # Nothing here calls home; each names its own switch.
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(WORK / "bentoml"),
    }


def _one_thread_a_process(start: Start) -> dict[str, str]:
    """For servers with a process for each core: it was faster than two threads in each, wherever it was tried."""
    return {**_alternative_variables(start), "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def _floor(name: str, title: str) -> Server:
    return Server(
        name,
        title,
        FLOORS,
        lambda start: _uvicorn(FLOORS.python, f"bench.floors.{name}:app", start.port),
        variables=lambda _start: {"PYTHONPATH": str(ROOT)},
        serves_models=False,
    )


COMPILED_MODELS: Final = WORK / "compiled-models"
"""What our server compiled; not the user's own, so that a run decides which of its starts is the first."""

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

HTTP_FLOORS: Final = (
    _floor("bare_asgi", "bare ASGI server, constant answer"),
    _floor("multipart_asgi", "the same, form parsed"),
)

SERVERS: Final = {server.name: server for server in (*OUR_SERVERS, *ALTERNATIVES, *HTTP_FLOORS)}
