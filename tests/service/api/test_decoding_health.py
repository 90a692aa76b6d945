"""Readiness and metrics of a service whose decoder threads hang."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from cifar10_serving.runtimes.machine import usable_cores
from service.images import decoding
from service.images.decoding import DecodeThreads
from service.images.encoded import EncodedImage
from service.settings import Settings
from tests.conftest import SAMPLES, ready_client
from tests.service.images.formats.files import encode, noise

LARGE = encode(noise(200, 200))
PNG = {"Content-Type": "image/png"}
BRIEFLY = PNG | {"X-Request-Timeout-Ms": "50"}


@pytest.fixture
def finish() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def overdue(client: TestClient) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("cifar10_decode_threads_overdue "))


def test_lost_threads_are_told_and_large_images_rejected_while_small_ones_are_answered(
    one_model: Path, finish: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = EncodedImage.decode
    monkeypatch.setattr(decoding, "DecodeThreads", partial(DecodeThreads, overdue_after_s=0.0))

    def endless(self: EncodedImage) -> object:
        assert finish.wait(60)
        return decode(self)

    with ready_client(Settings(models=one_model)) as client:
        assert client.post("/predict", content=LARGE, headers=PNG).status_code == 200
        monkeypatch.setattr(EncodedImage, "decode", endless)
        with ThreadPoolExecutor() as clients:
            lost = list(
                clients.map(
                    lambda _: client.post("/predict", content=LARGE, headers=BRIEFLY).status_code,
                    range(2 * usable_cores()),
                )
            )
        assert set(lost) <= {503, 504}
        while overdue(client) < 2 * usable_cores():
            assert client.post("/predict", content=LARGE, headers=BRIEFLY).status_code == 504
        rejected = client.post("/predict", content=LARGE, headers=PNG)
        assert (rejected.status_code, int(rejected.headers["Retry-After"]) >= 1) == (503, True)
        assert "decoder threads are stuck" in rejected.json()["detail"]
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "images that take too long" in ready.json()["reason"]
        assert client.post("/predict", content=SAMPLES[0].file.read_bytes(), headers=PNG).status_code == 200
        finish.set()
        while overdue(client):
            pass
        assert client.get("/readyz").json() | {"models": {}} == {"ready": True, "reason": None, "models": {}}
        assert client.post("/predict", content=LARGE, headers=PNG).status_code == 200


def test_image_beyond_the_memory_is_too_large_alone_and_in_a_batch(one_model: Path) -> None:
    large = encode(noise(4000, 1200))
    with ready_client(Settings(models=one_model, max_decode_bytes=16 * 2**20)) as client:
        rejected = client.post("/predict", content=large, headers=PNG)
        assert (rejected.status_code, rejected.json()["expected"]) == (413, "at most 16,777,216 bytes")
        files = [("files", ("a.png", content, "image/png")) for content in (large, LARGE)]
        first, second = client.post("/predict/batch", files=files).json()["results"]
        assert first["error"]["status"] == 413
        assert second["prediction"]["model"] == "sequential"
