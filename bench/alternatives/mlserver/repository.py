"""Writes the folder that `mlserver start` serves."""

import json
from pathlib import Path

# https://docs.seldon.ai/mlserver/user-guide/adaptive-batching: `max_batch_size`, and `max_batch_time`, seconds to
# wait for a batch to fill; without both nothing is batched.
MAX_BATCH_SIZE = 64
MAX_BATCH_TIME_S = 0.0005
# https://docs.seldon.ai/mlserver/user-guide/parallel-inference: 0 turns the worker processes off. Of 0, 1 and 2 it was
# the fastest where this was tried, with a small CNN and with MobileNetV2: TensorFlow needs no second interpreter.
PARALLEL_WORKERS = 0


def write_repository(folder: Path, *, model: str, port: int, grpc_port: int, metrics_port: int) -> None:
    """settings.json and model-settings.json, for one model."""
    folder.mkdir(parents=True, exist_ok=True)
    server = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": grpc_port,
        "metrics_port": metrics_port,
        # Of MLServer's settings.py: None turns metrics off; answers are compressed for clients that ask for it.
        "metrics_endpoint": None,
        "gzip_enabled": False,
        "metrics_dir": str(folder / ".metrics"),
        "environments_dir": str(folder / ".envs"),
        "parallel_workers": PARALLEL_WORKERS,
    }
    classifier = {
        "name": model,
        "implementation": "bench.alternatives.mlserver.savedmodel_runtime.SavedModelRuntime",
        "max_batch_size": MAX_BATCH_SIZE,
        "max_batch_time": MAX_BATCH_TIME_S,
    }
    (folder / "settings.json").write_text(json.dumps(server, indent=2))
    (folder / "model-settings.json").write_text(json.dumps(classifier, indent=2))
