"""Write the folder that `mlserver start` serves."""

import json
from pathlib import Path

# https://docs.seldon.ai/mlserver/user-guide/adaptive-batching: `max_batch_size`, and `max_batch_time`, seconds to
# wait for a batch to fill; without both, batching is off.
MAX_BATCH_SIZE = 64
MAX_BATCH_TIME_S = 0.0005


def write_repository(
    folder: Path, *, model: str, port: int, grpc_port: int, metrics_port: int, parallel_workers: int
) -> None:
    """Write settings.json and model-settings.json, for one model.

    Args:
        parallel_workers: processes that infer; 0 turns them off, so that the server infers by itself:
            https://docs.seldon.ai/mlserver/user-guide/parallel-inference.
    """
    folder.mkdir(parents=True, exist_ok=True)
    server = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": grpc_port,
        "metrics_port": metrics_port,
        # MLServer's settings.py: None turns metrics off; answers are compressed only for clients that accept it.
        "metrics_endpoint": None,
        "gzip_enabled": False,
        "metrics_dir": str(folder / ".metrics"),
        "environments_dir": str(folder / ".envs"),
        "parallel_workers": parallel_workers,
    }
    classifier = {
        "name": model,
        "implementation": "bench.alternatives.mlserver.savedmodel_runtime.SavedModelRuntime",
        "max_batch_size": MAX_BATCH_SIZE,
        "max_batch_time": MAX_BATCH_TIME_S,
    }
    (folder / "settings.json").write_text(json.dumps(server, indent=2))
    (folder / "model-settings.json").write_text(json.dumps(classifier, indent=2))
