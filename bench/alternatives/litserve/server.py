"""LitServe: dynamic batching, one worker per core.

python server.py PORT
"""

import logging
import os
import sys
from typing import Any

import litserve as ls
import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from bench.alternatives.saved_model import answer, decode, load_saved_model

# https://lightning.ai/docs/litserve/features/batching: "max_batch_size" and "batch_timeout", seconds to wait for a
# batch to fill. With 0 the worker polls continuously and takes a core from the others; longer than this costs single
# requests more than it gains for many.
MAX_BATCH_SIZE = 64
BATCH_TIMEOUT_S = 0.002
# LitServer's docstring, "workers_per_device": "For CPU, set to the number of cores available on the machine".
WORKERS = os.cpu_count() or 1


class Classifier(ls.LitAPI):  # type: ignore[misc]
    """LitServe's hooks, https://lightning.ai/docs/litserve/api-reference/litapi."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's own signature
        """Load the model, once in each worker."""
        self.model = load_saved_model()

    def decode_request(self, request: Request) -> NDArray[np.uint8]:
        """Decode the image from the form, whose files are in memory."""
        return decode(request["file"].file.read())

    def batch(self, inputs: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Stack the waiting images."""
        return np.stack(inputs)

    def predict(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the whole batch in one call."""
        return self.model.predict(x)

    def unbatch(self, output: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Split the batch into one row per request."""
        return list(output)

    def encode_response(self, output: NDArray[np.float32]) -> dict[str, Any]:
        """Return the same answer as the other servers."""
        return answer(output)


if __name__ == "__main__":
    # LitServer's docstring, "fast_queue": "Enable ZeroMQ for high-throughput scenarios (>100 RPS)". LitServe 0.2.19
    # uses the standard queue anyway: https://github.com/Lightning-AI/LitServe/issues/751
    # `num_api_servers` keeps its default, one per worker.
    server = ls.LitServer(
        Classifier(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT_S),
        accelerator="cpu",
        workers_per_device=WORKERS,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level=logging.getLevelName(logging.WARNING).lower(),
        generate_client_file=False,
        access_log=False,
    )
