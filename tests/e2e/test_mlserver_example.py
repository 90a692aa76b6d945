"""MLServer with docs/examples/mlserver answers the same requests as the service, and the same to them.

It has an environment of its own, whose folder CIFAR10_TEST_MLSERVER names: `python3.11 -m venv FOLDER`, and there
`bin/pip install -r bench/alternatives/mlserver/requirements.txt`.
"""

import os
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton

from tests.conftest import ROOT, SAMPLES
from tests.e2e.server import clean_environment, free_port, running_server, wait_for_200
from tests.service.api.kserve.requests import GOLDEN, MODEL, assert_golden

VARIABLE = "CIFAR10_TEST_MLSERVER"
pytestmark = pytest.mark.slow
EXAMPLE = ROOT / "docs/examples/mlserver"
FILES = ("cifar10_runtime.py", "model-settings.json")


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    """MLServer's and the service's."""
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} names no environment that has MLServer")
    folder = tmp_path_factory.mktemp("mlserver")
    port, log = free_port(), folder / "mlserver.log"
    variables = {
        "MLSERVER_HTTP_PORT": str(port),
        "MLSERVER_GRPC_PORT": str(free_port()),
        "MLSERVER_METRICS_PORT": str(free_port()),
        "MLSERVER_METRICS_DIR": str(folder / "metrics"),
        "MLSERVER_PARALLEL_WORKERS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    command = [str(Path(os.environ[VARIABLE]) / "bin/mlserver"), "start", str(EXAMPLE)]
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, cwd=folder, env=clean_environment() | variables, stdout=stream, stderr=stream, text=True
        )
    try:
        wait_for_200(f"http://127.0.0.1:{port}/v2/models/{MODEL}/ready", process, log)
        with running_server(folder / "service.log") as ours:
            addresses = [f"127.0.0.1:{port}", ours.url.removeprefix("http://")]
            both = [triton.InferenceServerClient(address) for address in addresses]
            yield both
            for client in both:
                client.close()
    finally:
        process.terminate()
        process.wait(20)


def given_as(name: str) -> Any:
    if name == "images":
        given = triton.InferInput(name, [64, 32, 32, 3], "UINT8")
        return given.set_data_from_numpy(GOLDEN.images, binary_data=False)
    given = triton.InferInput(name, [len(SAMPLES)], "BYTES")
    texts = [b64encode(sample.file.read_bytes()) for sample in SAMPLES]
    return given.set_data_from_numpy(np.array(texts, np.object_), binary_data=False)


def test_the_example_has_no_other_files() -> None:
    assert sorted(file.name for file in EXAMPLE.iterdir() if file.is_file()) == sorted(FILES)


def test_both_tell_the_same_of_the_model(clients: list[Any]) -> None:
    for client in clients:
        assert client.is_model_ready(MODEL)
    theirs, ours = (client.get_model_metadata(MODEL) for client in clients)
    for key in ("name", "platform"):
        assert theirs[key] == ours[key]
    for key in ("inputs", "outputs"):
        assert [tensor.items() >= known.items() for tensor, known in zip(theirs[key], ours[key], strict=True)] == [True]


@pytest.mark.parametrize("name", ["images", "image_bytes"])
def test_both_answer_the_same(clients: list[Any], name: str) -> None:
    outputs = [triton.InferRequestedOutput("probabilities", binary_data=False)]
    answers = [client.infer(MODEL, [given_as(name)], request_id="7", outputs=outputs) for client in clients]
    theirs, ours = (answer.as_numpy("probabilities") for answer in answers)
    assert [answer.get_response()["id"] for answer in answers] == ["7", "7"]
    assert np.abs(theirs - ours).max() < 1e-5
    if name == "images":
        assert_golden(theirs, 64)
