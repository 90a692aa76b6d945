"""Invented results of a run: round numbers, so that ratios are easy to check."""

from collections.abc import Sequence

from bench.measurements import BinaryInfer, Load, Machine, Overload, Results, Round, RuntimeAlone, Trial, WholeStart
from training.cifar10 import MODEL_NAMES

SERVERS = [
    *("ours", "ours_bfloat16", "ours_default"),
    *("fastapi_openvino", "fastapi_openvino_default", "plain_fastapi", "plain_fastapi_2"),
    *("bare_asgi", "multipart_asgi"),
]
BINARY = BinaryInfer(rows=32, requests=100, client_ms=2.5, service_ms=2.2, runtime_ms=2.0)


def load(requests_per_s: float, p50_ms: float = 2.0, error_statuses: int = 0) -> Load:
    return Load(
        requests=round(requests_per_s * 10) + error_statuses,
        duration_s=10,
        p50_ms=p50_ms,
        p90_ms=p50_ms * 2,
        p99_ms=p50_ms * 4,
        max_ms=p50_ms * 8,
        error_statuses=error_statuses,
        socket_errors={"connect": 0, "read": 0, "write": 0, "timeout": 0},
    )


def trial(server: str, model: str | None, requests_per_s: float, p50_ms: float = 2.0) -> Trial:
    return Trial(
        server=server,
        model=model,
        ready_s=1,
        rss_ready_bytes=100_000_000,
        rss_loaded_bytes=200_000_000,
        loads={1: load(requests_per_s, p50_ms), 64: load(requests_per_s * 2, p50_ms * 32)},
    )


def measured_round(number: int, ours_per_s: float, **parts: object) -> Round:
    """Ours is as fast in each precision; the best alternatives have 200/s in float32, and 400/s in bfloat16."""
    photographs = {"photo": {8: load(ours_per_s / 2)}}
    return Round(
        number=number,
        trials=[
            trial("ours", "sequential", ours_per_s, p50_ms=1.0).model_copy(
                update={"binary_infer": BINARY, "photograph_loads": photographs}
            ),
            trial("ours_bfloat16", "sequential", ours_per_s, p50_ms=1.0),
            trial("ours_default", "sequential", ours_per_s, p50_ms=4.0),
            trial("fastapi_openvino", "sequential", 150).model_copy(
                update={"photograph_loads": {"photo": {8: load(100)}}}
            ),
            trial("fastapi_openvino_default", "sequential", 400),
            trial("plain_fastapi", "sequential", 100),
            trial("plain_fastapi_2", "sequential", 200),
            trial("bare_asgi", None, 2000, p50_ms=0.25),
            trial("multipart_asgi", None, 1000, p50_ms=0.5),
        ],
        runtime_alone=[
            RuntimeAlone(
                model=model,
                precision="float32",
                images_per_s={1: 1000, 32: 3000},
                call_a_core_images_per_s={1: 500, 32: 4000},
            )
            for model in ("sequential", "vgg16")
        ],
    ).model_copy(update=parts)


def results(*rounds: Round, cpu_features: Sequence[str] = ("avx2", "avx512_bf16")) -> Results:
    return Results(
        date="2026-01-01",
        commit="0123456789ab",
        command="make bench",
        seconds=10,
        concurrency=[1, 64],
        photograph_loads={"photo": [8]},
        servers=SERVERS,
        models={"sequential": 2},
        unpublished=["vgg16"],
        unavailable={"mlserver": "it did not install"},
        versions={"plain FastAPI": {"fastapi": "1.0"}},
        machine=Machine(
            cpu="a CPU", cores=2, cpu_features=list(cpu_features), memory_bytes=8 * 2**30, system="Linux 6"
        ),
        rounds=list(rounds),
    )


def overload(**parts: object) -> Overload:
    return Overload(
        model="sequential",
        capacity_per_s=1000,
        wanted_per_s=3000,
        offered_per_s=3000,
        duration_s=10,
        statuses={200: 9500, 503: 20000, 504: 500},
        unanswered=0,
        rejected_p99_ms=12.5,
        answered_p99_ms=300,
        lateness_p99_ms=1,
        not_sent=0,
    ).model_copy(update=parts)


def whole_start(models: int = len(MODEL_NAMES)) -> WholeStart:
    return WholeStart(
        models=list(MODEL_NAMES[:models]),
        first_ready_s=2.501,
        ready_s=2.5,
        rss_ready_bytes=500_000_000,
        rss_loaded_bytes=600_000_001,
        import_s=[0.5, 0.6, 0.9],
    )
