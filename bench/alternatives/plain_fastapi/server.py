"""The server at the end of a FastAPI tutorial; uvicorn starts it with one or several processes."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from fastapi import FastAPI, UploadFile

from bench.alternatives.saved_model import SavedModel, answer, decode, load_saved_model

models: dict[str, SavedModel] = {}


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Load the model before the first request: https://fastapi.tiangolo.com/advanced/events/, "Lifespan"."""
    models["model"] = load_saved_model()
    yield
    models.clear()


app = FastAPI(lifespan=lifespan)


# `def`, so that it runs in the thread pool: https://fastapi.tiangolo.com/async/, "Path operation functions".
# UploadFile: https://fastapi.tiangolo.com/tutorial/request-files/
@app.post("/predict")
def predict(file: UploadFile) -> dict[str, Any]:
    """Classify one image."""
    image = decode(file.file.read())
    return answer(models["model"].predict(np.expand_dims(image, 0))[0])


@app.get("/health")
async def health() -> dict[str, int]:
    """Return the id of the process that answers; with several processes, each becomes ready on its own."""
    return {"pid": os.getpid()}
