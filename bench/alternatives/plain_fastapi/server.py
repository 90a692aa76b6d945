"""The server that a FastAPI tutorial ends with; started by uvicorn, with one process or several."""

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
    """Load once, before requests: https://fastapi.tiangolo.com/advanced/events/, "Lifespan"."""
    models["model"] = load_saved_model()
    yield
    models.clear()


app = FastAPI(lifespan=lifespan)


# `def`, so that it runs in the thread pool: https://fastapi.tiangolo.com/async/, "Path operation functions".
# UploadFile: https://fastapi.tiangolo.com/tutorial/request-files/
@app.post("/predict")
def predict(file: UploadFile) -> dict[str, Any]:
    """The class of one image."""
    image = decode(file.file.read())
    return answer(models["model"].predict(np.expand_dims(image, 0))[0])


@app.get("/health")
async def health() -> dict[str, int]:
    """Which process answers; with several, each is ready by itself."""
    return {"pid": os.getpid()}
