"""The servers to measure: ours, the alternatives and the HTTP baselines, with their commands and answer formats.

`bench.processes` runs them, `bench.load` puts them under load.
"""

import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Final, Literal

import numpy as np

from bench.alternatives.mlserver import repository as mlserver_repository
from bench.alternatives.triton import repository as triton_repository
from bench.environments import BASELINES, OURS, ROOT, WORK, Environment, of_alternative
from bench.processes import free_port
from bench.uploads import BodyKind
from cifar10_serving.artifacts.layout import read_metadata

Precision = Literal["float32", "bfloat16", "auto"]
"""`auto`: the server chooses. OpenVINO, unless it is told otherwise, takes bfloat16 where the CPU has it."""

OUR_SERVER: Final = "ours"
OUR_DEFAULT: Final = "ours_default"
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
    """A server: its name in results and on the command line, its title, and how to run it."""

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
    precision: Precision | None = None
    """None for an HTTP baseline, which computes nothing."""
    is_default: bool = False
    """True if it computes in its own default precision."""
    in_float32: str | None = None
    """The same server in float32, which it equals on a CPU without bfloat16."""

    @property
    def serves_models(self) -> bool:
        """False for an HTTP baseline, which returns a constant."""
        return self.precision is not None

    @property
    def tolerance(self) -> float:
        """Maximum difference of a probability from the golden one."""
        return 1e-3 if self.precision == "float32" else 0.15

    def computes_in(self, cpu_features: Collection[str]) -> str | None:
        """Return the precision on such a CPU; None for a baseline, and for our own choice, which is made at load."""
        if self.precision != "auto":
            return self.precision
        if self.in_float32 is None:
            return None
        return "bfloat16" if has_bfloat16(cpu_features) else "float32"


def has_bfloat16(cpu_features: Collection[str]) -> bool:
    """Return whether a CPU has instructions for bfloat16."""
    return not BFLOAT16_CPU_FEATURES.isdisjoint(cpu_features)


def _bentoml_answer(body: bytes) -> Answer:
    return read_answer(json.dumps(json.loads(body)[0]).encode())


def _v2_binary_answer(body: bytes) -> Answer:
    head, length = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    if head["outputs"][0]["datatype"] != "FP32":
        raise ValueError(f"an output in {head['outputs'][0]['datatype']}")
    probabilities = np.frombuffer(body, "<f4", offset=length)
    class_id = int(probabilities.argmax())
    return Answer(class_id, float(probabilities[class_id]))


def _v2_answer(body: bytes) -> Answer:
    probabilities = json.loads(body)["outputs"][0]["data"]
    class_id = max(range(len(probabilities)), key=probabilities.__getitem__)
    return Answer(class_id, probabilities[class_id])


def _uvicorn(python: Path, app: str, port: int, processes: int = 1) -> list[str]:
    workers = ["--workers", str(processes)] if processes > 1 else []
    return [str(python), "-m", "uvicorn", app, "--port", str(port), *UVICORN_QUIET, *workers]


def _fastapi(name: str, processes: int) -> Callable[[Start], list[str]]:
    python = of_alternative(name).python
    return lambda start: _uvicorn(python, f"bench.alternatives.{name}.server:app", start.port, processes)


def _ours(name: str, title: str, precision: Precision, settings: Mapping[str, str]) -> Server:
    def command(start: Start) -> list[str]:
        return [str(OURS.python), "-m", "service", "--port", str(start.port), "--models", str(start.models_folder)]

    variables = {f"CIFAR10_{setting.upper()}": value for setting, value in settings.items()}
    return Server(
        name,
        title,
        OURS,
        command,
        "/predict?model={model}",
        "/readyz",
        variables=lambda _start: {"CIFAR10_COMPILED_MODELS": str(COMPILED_MODELS), **variables},
        precision=precision,
        is_default=not settings,
    )


def _ours_with(precision: Precision, workers: int) -> Server:
    name = OUR_SERVER if precision == "float32" else f"{OUR_SERVER}_{precision}"
    title = "cifar10-serving" if precision == "float32" else f"cifar10-serving, {precision}"
    if workers > 1:
        name, title = f"{name}_{workers}", f"{title}, {workers} workers"
    return _ours(name, title, precision, {"precision": precision, "workers": str(workers)})


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
        mlserver_repository.write_repository(
            folder,
            model=start.model,
            port=start.port,
            grpc_port=free_port(),
            metrics_port=free_port(),
            parallel_workers=parallel_workers,
        )
        return [str(of_alternative("mlserver").folder / "bin/mlserver"), "start", str(folder)]

    server = Server(
        name,
        title,
        of_alternative("mlserver", "mlserver", "tensorflow"),
        command,
        path="/v2/models/{model}/infer",
        ready_path="/v2/models/{model}/ready",
        body=BodyKind.V2_JSON,
        read_answer=_v2_answer,
        variables=variables,
    )
    return _on_tensorflow(server)


def _plain_fastapi(processes: int, variables: Callable[[Start], Mapping[str, str]]) -> Server:
    server = Server(
        BASELINE if processes == 1 else f"{BASELINE}_{processes}",
        "plain FastAPI" if processes == 1 else f"plain FastAPI, {processes} processes",
        of_alternative("plain_fastapi", "fastapi", "uvicorn", "tensorflow"),
        _fastapi("plain_fastapi", processes),
        ready_processes=processes,
        variables=variables,
    )
    return _on_tensorflow(server)


def _fastapi_openvino(processes: int, *, default: bool) -> Server:
    name, title = "fastapi_openvino", "FastAPI + OpenVINO"
    if processes > 1:
        name, title = f"{name}_{processes}", f"{title}, {processes} processes"
    environment = of_alternative("fastapi_openvino", "openvino", "fastapi", "uvicorn")
    command = _fastapi("fastapi_openvino", processes)
    return _on_openvino(
        Server(name, title, environment, command, ready_processes=processes, variables=_alternative_variables),
        default=default,
    )


def _triton(instances: int, *, default: bool) -> Server:
    # Triton's stub for Python 3.11 needs the shared library of Debian's own.
    environment = replace(
        of_alternative("triton", "nvidia-pytriton", "openvino"),
        interpreter="/usr/bin/python3.11",
        library="libpython3.11.so.1.0",
    )

    def command(start: Start) -> list[str]:
        models, backends = start.scratch / "models", start.scratch / "backends"
        package = environment.site_packages / "pytriton"
        classes = len(read_metadata(start.saved_model).labels)
        triton_repository.write_repository(models, model=start.model, classes=classes, instances=instances)
        triton_repository.write_backends(backends, package)
        return [
            str(package / "tritonserver/bin/tritonserver"),
            *(f"--model-repository={models}", f"--backend-directory={backends}"),
            *("--http-address=127.0.0.1", f"--http-port={start.port}"),
            # No access log; gRPC and metrics are not asked for.
            *("--log-info=false", "--allow-grpc=false", "--allow-metrics=false"),
        ]

    def variables(start: Start) -> dict[str, str]:
        # As nvidia-pytriton itself starts it (pytriton/server/triton_server.py): with its libraries, and so that the
        # backend's Python finds the environment's packages.
        return {
            **_alternative_variables(start),
            "LD_LIBRARY_PATH": str(environment.site_packages / "nvidia_pytriton.libs"),
            "PATH": f"{environment.folder / 'bin'}:{os.environ.get('PATH', os.defpath)}",
            **({"BENCH_INFERENCE_THREADS": "1"} if instances > 1 else {}),
        }

    server = Server(
        "triton" if instances == 1 else f"triton_{instances}",
        "Triton + OpenVINO" if instances == 1 else f"Triton + OpenVINO, {instances} instances",
        environment,
        command,
        path="/v2/models/{model}/infer",
        ready_path="/v2/health/ready",
        body=BodyKind.V2_BINARY,
        read_answer=_v2_binary_answer,
        variables=variables,
    )
    return _on_openvino(server, default=default)


def _on_tensorflow(server: Server) -> Server:
    """Return a server that computes in TensorFlow's only precision for this SavedModel."""
    return replace(server, precision="float32", is_default=True)


def _on_openvino(server: Server, *, default: bool) -> Server:
    """Return a server in the precision that OpenVINO takes by default, or in float32."""
    if default:
        return replace(
            server,
            name=f"{server.name}_default",
            title=f"{server.title}, default precision",
            precision="auto",
            is_default=True,
            in_float32=server.name,
        )
    return replace(
        server,
        variables=lambda start: {**server.variables(start), "BENCH_PRECISION": "f32"},
        precision="float32",
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
    )


COMPILED_MODELS: Final = WORK / "compiled-models"
"""Our server's compiled models; separate from the user's own cache, so that the first start of a run is a cold one."""

OUR_PRECISIONS: Final[tuple[Precision, ...]] = ("float32", "bfloat16", "auto")
OUR_WORKERS: Final = (1, 2)
OUR_SERVERS: Final = (
    *(_ours_with(precision, workers) for precision, workers in product(OUR_PRECISIONS, OUR_WORKERS)),
    _ours(OUR_DEFAULT, "cifar10-serving, default settings", "auto", {}),
)

ALTERNATIVES: Final = (
    *(_fastapi_openvino(processes, default=default) for default, processes in product((False, True), (1, 2))),
    *(_triton(instances, default=default) for default, instances in product((False, True), (1, 2))),
    _plain_fastapi(1, _alternative_variables),
    _plain_fastapi(2, _one_thread_a_process),
    _on_tensorflow(
        Server(
            "litserve",
            "LitServe",
            of_alternative("litserve", "litserve", "tensorflow"),
            _litserve,
            variables=_one_thread_a_process,
        )
    ),
    _on_tensorflow(
        Server(
            "bentoml",
            "BentoML",
            of_alternative("bentoml", "bentoml", "tensorflow"),
            _bentoml,
            ready_path="/readyz",
            read_answer=_bentoml_answer,
            variables=_one_thread_a_process,
        )
    ),
    _mlserver("mlserver", "MLServer", 0, _alternative_variables),
    _mlserver("mlserver_2", "MLServer, 2 workers", 2, _one_thread_a_process),
)

HTTP_BASELINES: Final = (
    _baseline("bare_asgi", "bare ASGI server, constant answer"),
    _baseline("multipart_asgi", "the same, form parsed"),
)

SERVERS: Final = {server.name: server for server in (*OUR_SERVERS, *ALTERNATIVES, *HTTP_BASELINES)}
