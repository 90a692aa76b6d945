"""BentoML: a service with adaptive batching.

bentoml serve classifier_service:Classifier
"""

import os
from typing import Any

import bentoml
import numpy as np
from PIL.Image import Image

from bench.alternatives.saved_model import answer, load_saved_model, pixels

# https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html: `batchable`, `max_batch_size`,
# `max_latency_ms` (above it, requests are rejected; the page's default is 60,000).
MAX_BATCH_SIZE = 64
MAX_LATENCY_MS = 60_000
# https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html, "CPU workloads": several workers, to
# use several cores despite the interpreter's lock.
WORKERS = os.cpu_count() or 1


# https://docs.bentoml.com/en/latest/reference/bentoml/configurations.html: `traffic.timeout`, seconds; metrics and the
# access log are on by default.
@bentoml.service(
    workers=WORKERS, traffic={"timeout": 60}, logging={"access": {"enabled": False}}, metrics={"enabled": False}
)
class Classifier:
    """The SavedModel with one batchable method."""

    def __init__(self) -> None:
        self.model = load_saved_model()

    # A list of images as the batch: https://docs.bentoml.com/en/latest/build-with-bentoml/iotypes.html, "Files"
    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH_SIZE, max_latency_ms=MAX_LATENCY_MS)  # type: ignore[untyped-decorator]
    def predict(self, file: list[Image]) -> list[dict[str, Any]]:
        """Return one answer per image."""
        images = np.stack([pixels(image) for image in file])
        return [answer(probabilities) for probabilities in self.model.predict(images)]
