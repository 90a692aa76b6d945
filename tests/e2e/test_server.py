"""The real service in a separate process, over a real socket."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
from PIL import Image

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.schemas import Prediction
from tests.conftest import MODELS, PUBLISHED, ROOT, SAMPLES, SampleImage, golden_class, newest_version
from tests.e2e.server import Server, clean_environment, free_port, running_server
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
CAT = SAMPLES[3]
STOPPED_WITHIN_S = 60
"""Far more than any of these stops takes, for a busy machine."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server") / "log", CIFAR10_MODELS=str(MODELS)) as started:
        yield started


def encode(sample: SampleImage, kind: str) -> bytes:
    stream = BytesIO()
    Image.fromarray(sample.pixels).save(stream, kind, quality=95)
    return stream.getvalue()


@pytest.mark.parametrize("model", PUBLISHED)
@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG", "WEBP", "GIF"])
def test_test_set_images_get_their_golden_class_in_each_format(server: Server, model: str, kind: str) -> None:
    right = 0
    for sample in SAMPLES:
        files = {"file": (f"picture.{kind.lower()}", encode(sample, kind), f"image/{kind.lower()}")}
        response = httpx.post(f"{server.url}/predict", files=files, params={"model": model})
        prediction = Prediction.model_validate_json(response.content)
        right += prediction.class_id == golden_class(model, sample)
    lossless = kind in {"PNG", "BMP"}
    assert right == len(SAMPLES) if lossless else right >= len(SAMPLES) - 2


def test_upload_that_is_too_large_is_answered_though_the_client_is_still_sending(server: Server) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), address.port or 80), timeout=STOPPED_WITHIN_S) as connection:
        head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 900000000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 300_000)
        answer = ""
        while "900,000,000 bytes" not in answer:
            part = connection.recv(65536).decode()
            assert part, f"the connection was closed after {answer!r}"
            answer += part
    assert answer.startswith("HTTP/1.1 413 ")
    assert "connection: close" in answer.lower()


def test_upload_that_is_too_large_is_answered_to_a_client_that_sends_it_all_first(server: Server) -> None:
    response = httpx.post(f"{server.url}/predict", content=b"x" * 25_000_000, headers={"Content-Type": "image/png"})
    assert response.status_code == 413


def test_client_that_leaves_half_way_harms_nobody(server: Server) -> None:
    address = urlsplit(server.url)
    for _ in range(5):
        with socket.create_connection(
            (str(address.hostname), address.port or 80), timeout=STOPPED_WITHIN_S
        ) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nx"
            )
    answer = httpx.post(f"{server.url}/predict", content=CAT.file.read_bytes(), headers={"Content-Type": "image/png"})
    assert answer.status_code == 200
    assert "Traceback" not in server.log.read_text()


def test_broken_version_is_listed_while_the_others_serve(one_model: Path, tmp_path: Path) -> None:
    broken = version_folder(one_model, "functional", 1)
    broken.mkdir(parents=True)
    (broken / "metadata.json").write_text("{}")
    with running_server(tmp_path / "log", CIFAR10_MODELS=str(one_model)) as server:
        models = {model["name"]: model for model in httpx.get(f"{server.url}/models").json()["models"]}
        assert models["sequential"]["state"] == "ready"
        assert models["functional"]["state"] == "failed"
        assert "metadata.json" in models["functional"]["versions"][0]["reason"]


def test_tensorflow_gives_the_same_answers(tmp_path: Path) -> None:
    with running_server(tmp_path / "log", CIFAR10_RUNTIME="tensorflow", CIFAR10_DEVICE="cpu") as server:
        assert httpx.get(f"{server.url}/models").json()["runtime"] == "tensorflow"
        for sample in SAMPLES:
            response = httpx.post(
                f"{server.url}/predict", files={"file": sample.file.read_bytes()}, params={"model": "sequential"}
            )
            assert response.json()["class_id"] == golden_class("sequential", sample)


@pytest.fixture(scope="module")
def large_picture() -> bytes:
    """A PNG of 25 megapixels, which take a moment to decode."""
    stream = BytesIO()
    Image.effect_noise((1250, 1250), 80).resize((5000, 5000), Image.Resampling.NEAREST).save(
        stream, "PNG", compress_level=1
    )
    return stream.getvalue()


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_stopping_answers_what_was_accepted_and_exits_0(
    tmp_path: Path, large_picture: bytes, stop_signal: signal.Signals
) -> None:
    with running_server(tmp_path / "log", CIFAR10_MAX_BODY_BYTES="100000000") as server:

        def ask(_: int) -> int:
            headers = {"Content-Type": "image/png"}
            status: int = httpx.post(
                f"{server.url}/predict", content=large_picture, headers=headers, timeout=60
            ).status_code
            return status

        with ThreadPoolExecutor(4) as threads:
            asked = [threads.submit(ask, number) for number in range(4)]
            wait(asked, return_when=FIRST_COMPLETED)  # until the first answer is out, the others are under way
            os.kill(server.process.pid, stop_signal)
            assert [answered.result() for answered in asked] == [200] * 4
        assert server.process.wait(STOPPED_WITHIN_S) == 0
    assert "Traceback" not in server.log.read_text()


def test_upload_that_stalls_is_ended(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "log", CIFAR10_UPLOAD_TIMEOUT_S="0.3") as server,
        stalled_upload(server) as connection,
    ):
        assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")
        assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_work_that_outlives_its_deadline_does_not_disturb_a_stop(tmp_path: Path) -> None:
    stream = BytesIO()
    Image.new("RGB", (7000, 7000)).save(stream, "PNG", compress_level=1)
    with running_server(tmp_path / "log", CIFAR10_REQUEST_TIMEOUT_S="0.05") as server:
        headers = {"Content-Type": "image/png"}
        assert httpx.post(f"{server.url}/predict", content=stream.getvalue(), headers=headers).status_code == 504
        os.kill(server.process.pid, signal.SIGTERM)
        assert server.process.wait(STOPPED_WITHIN_S) == 0
        assert "Traceback" not in server.log.read_text()


def test_uploads_that_go_on_do_not_disturb_a_stop(tmp_path: Path) -> None:
    with running_server(tmp_path / "log", CIFAR10_GRACEFUL_SHUTDOWN_TIMEOUT_S="1") as server:
        with stalled_upload(server) as stalled, stalled_upload(server, length=1_000_000_000) as rejected:
            assert rejected.recv(65536).startswith(b"HTTP/1.1 413 ")
            os.kill(server.process.pid, signal.SIGTERM)
            answer = stalled.recv(65536)  # when the time of the stop is over
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"application/problem+json" in answer
            assert server.process.wait(STOPPED_WITHIN_S) == 0
        assert "Traceback" not in server.log.read_text()


def test_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with running_server(tmp_path / "log", CIFAR10_GRACEFUL_SHUTDOWN_TIMEOUT_S="600") as server, stalled_upload(server):

        def ended_by_one_more() -> bool:
            server.process.send_signal(signal.SIGINT)
            return server.process.poll() is not None

        wait_until(ended_by_one_more, look_every_s=1)  # one that comes sooner is taken for the one before
        assert server.process.returncode == 0
        assert "Traceback" not in server.log.read_text()


@contextmanager
def stalled_upload(server: Server, length: int = 99) -> Iterator[socket.socket]:
    """A connection with an incomplete request that is never continued."""
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), address.port or 80), timeout=STOPPED_WITHIN_S) as connection:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(head.encode() + b"x")
        time.sleep(0.2)
        yield connection


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"CIFAR10_PORT": "0"}, "CIFAR10_PORT = '0' is not legal; expected: whole number from 1 to 65,535"),
        ({"CIFAR10_MODELS": "nowhere"}, "CIFAR10_MODELS = 'nowhere': there is no such folder"),
        ({"CIFAR10_DEVICE": "gpu"}, "device gpu was requested, but TensorFlow"),
    ],
)
def test_start_that_can_not_be_ends_with_one_clear_line(variables: dict[str, str], words: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=clean_environment() | {"CIFAR10_PORT": str(free_port())} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 2
    assert words in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_port_in_use_ends_with_a_message(server: Server) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "service", "--port", server.url.rpartition(":")[2]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 2
    assert "Address already in use" in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_log_is_one_json_object_a_line(server: Server) -> None:
    httpx.get(f"{server.url}/livez")
    entries = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {"time", "level", "logger", "message"} <= set(entries[0])
    assert any(f"sequential version {newest_version('sequential')} is ready" in entry["message"] for entry in entries)


def test_healthcheck_asks_the_service(server: Server) -> None:
    def healthcheck(port: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "service.healthcheck"],
            cwd=ROOT,
            env=clean_environment() | {"CIFAR10_PORT": port},
            capture_output=True,
            text=True,
            check=False,
        )

    ready = healthcheck(server.url.rpartition(":")[2])
    assert (ready.returncode, json.loads(ready.stdout)["ready"]) == (0, True)
    assert healthcheck(str(free_port())).returncode == 1
