"""FastAPI with OpenVINO; uvicorn starts it with one or several processes.

Each thread of FastAPI's pool has its own inference request, as OpenVINO demands of concurrent callers:
https://docs.openvino.ai/2025/openvino-workflow/running-inference/inference-request.html
"""

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from fastapi import FastAPI, UploadFile

from bench.alternatives.openvino_model import compile_saved_model, infer
from bench.alternatives.saved_model import answer, decode

models: dict[str, Any] = {}
own = threading.local()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Load the model before the first request: https://fastapi.tiangolo.com/advanced/events/, "Lifespan".

    "THROUGHPUT" is the hint for many concurrent requests:
    https://docs.openvino.ai/2025/openvino-workflow/running-inference/optimize-inference/high-level-performance-hints.html
    """
    models["model"] = compile_saved_model(PERFORMANCE_HINT="THROUGHPUT")
    yield
    models.clear()


app = FastAPI(lifespan=lifespan)


# `def`, so that it runs in the thread pool: https://fastapi.tiangolo.com/async/, "Path operation functions".
# UploadFile: https://fastapi.tiangolo.com/tutorial/request-files/
@app.post("/predict")
def predict(file: UploadFile) -> dict[str, Any]:
    """Classify one image."""
    image = decode(file.file.read())
    if not hasattr(own, "request"):
        own.request = models["model"].create_infer_request()
    return answer(infer(own.request, np.expand_dims(image, 0))[0])


@app.get("/health")
async def health() -> dict[str, int]:
    """Return the id of the process that answers; with several processes, each becomes ready on its own."""
    return {"pid": os.getpid()}
