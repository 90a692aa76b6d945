"""A real server and the protocols' own clients: tritonclient over HTTP and gRPC, blocking and asyncio."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from statistics import median
from typing import Any

import grpc
import httpx2 as httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.runtimes.golden import read_golden
from tests.conftest import MODELS, ROOT, SAMPLES, golden_class, newest_version
from tests.e2e.server import free_port, running_server
from tests.version_copies import publish_copy
from tests.waiting import wait_until
from training.cifar10 import CLASS_NAMES

pytestmark = pytest.mark.slow
MODEL = "sequential"
GIVEN = "a-secret-of-some-length"
AUTHORIZED = {"authorization": f"Bearer {GIVEN}"}
GOLDEN = read_golden(version_folder(MODELS, MODEL, newest_version(MODEL)) / "golden.npz")
FILES = np.array([sample.file.read_bytes() for sample in SAMPLES[:2]], np.object_)
PROTOCOLS = {"http": triton_http, "grpc": triton_grpc}
VERSION = str(newest_version(MODEL))


@dataclass(frozen=True)
class Addresses:
    """The addresses of a server, and its process."""

    http: str
    grpc: str
    process: "subprocess.Popen[str]"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    folder = tmp_path_factory.mktemp("models")
    (folder / MODEL).mkdir()
    for version in (1, int(VERSION)):
        publish_copy(folder, version, source=version)
    port = free_port()
    log = tmp_path_factory.mktemp("log") / "server.log"
    with running_server(
        log,
        CIFAR10_MODELS=str(folder),
        CIFAR10_GRPC_PORT=str(port),
        CIFAR10_ADMIN_TOKEN=GIVEN,
        CIFAR10_MAX_BODY_BYTES=str(2**21),
    ) as running:
        yield Addresses(running.url.removeprefix("http://"), f"127.0.0.1:{port}", running.process)


@pytest.fixture(params=["http", "grpc"])
def triton(request: pytest.FixtureRequest, server: Addresses) -> Iterator[tuple[Any, Any]]:
    """A client of Triton, and the module that it is of."""
    module = PROTOCOLS[request.param]
    client = module.InferenceServerClient(getattr(server, request.param))
    yield client, module
    client.close()


def images_input(module: Any, rows: int = 2) -> Any:
    given = module.InferInput("images", [rows, 32, 32, 3], "UINT8")
    given.set_data_from_numpy(GOLDEN.images[:rows])
    return given


def assert_golden(result: Any, rows: int = 2) -> None:
    assert np.abs(result.as_numpy("probabilities") - GOLDEN.probabilities[:rows]).max() < 1e-5


def test_server_and_model_tell_of_themselves(triton: tuple[Any, Any]) -> None:
    client, module = triton
    as_json = {"as_json": True} if module is triton_grpc else {}
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, VERSION)
    server = client.get_server_metadata(**as_json)
    assert server["name"] == "cifar10-serving"
    assert server["extensions"] == [
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "statistics",
        "model_repository",
    ]
    model = client.get_model_metadata(MODEL, **as_json)
    assert (model["name"], model["versions"], model["platform"]) == (MODEL, [VERSION], "tensorflow_savedmodel")
    assert [int(size) for size in model["inputs"][0]["shape"]] == [-1, 32, 32, 3]
    assert model["outputs"][0]["datatype"] == "FP32"


def test_pixels_go_in_and_probabilities_come_out(triton: tuple[Any, Any]) -> None:
    client, module = triton
    result = client.infer(MODEL, [images_input(module)], request_id="42", model_version=VERSION)
    assert_golden(result)
    response = result.get_response()
    assert (response["id"] if isinstance(response, dict) else response.id) == "42"
    outputs = [module.InferRequestedOutput("probabilities")]
    assert_golden(client.infer(MODEL, [images_input(module, 64)], outputs=outputs, timeout=5_000_000), 64)


def test_files_go_in_and_classes_come_out(triton: tuple[Any, Any]) -> None:
    client, module = triton
    given = module.InferInput("image_bytes", [2], "BYTES")
    given.set_data_from_numpy(FILES)
    outputs = [module.InferRequestedOutput("probabilities", class_count=2)]
    found = client.infer(MODEL, [given], outputs=outputs).as_numpy("probabilities")
    assert found.shape == (2, 2)
    for row, sample in zip(found, SAMPLES[:2], strict=True):
        _, index, label = row[0].decode().split(":")
        assert (int(index), label) == (golden_class(MODEL, sample), CLASS_NAMES[int(index)])


def test_json_and_compressed_requests_of_the_http_client(server: Addresses) -> None:
    client = triton_http.InferenceServerClient(server.http)
    given = triton_http.InferInput("images", [2, 32, 32, 3], "UINT8")
    given.set_data_from_numpy(GOLDEN.images[:2], binary_data=False)
    outputs = [triton_http.InferRequestedOutput("probabilities", binary_data=False)]
    for compression in (None, "gzip", "deflate"):
        result = client.infer(MODEL, [given], outputs=outputs, request_compression_algorithm=compression)
        assert_golden(result)
    assert_golden(client.async_infer(MODEL, [given]).get_result())
    client.close()


@pytest.mark.anyio
async def test_asyncio_clients_get_the_same(server: Addresses) -> None:
    for module, address in ((triton_http_aio, server.http), (triton_grpc_aio, server.grpc)):
        async with module.InferenceServerClient(address) as client:
            results = await asyncio.gather(*(client.infer(MODEL, [images_input(module)]) for _ in range(8)))
            for result in results:
                assert_golden(result)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (("alexnet", "", "images", "UINT8"), "NOT_FOUND"),
        ((MODEL, "99", "images", "UINT8"), "NOT_FOUND"),
        ((MODEL, "-1", "images", "UINT8"), "INVALID_ARGUMENT"),
        ((MODEL, "", "pixels", "UINT8"), "INVALID_ARGUMENT"),
        ((MODEL, "", "images", "INT8"), "INVALID_ARGUMENT"),
    ],
)
def test_errors_reach_the_client_with_their_reason(
    triton: tuple[Any, Any], asked: tuple[str, str, str, str], code: str
) -> None:
    client, module = triton
    model, version, name, datatype = asked
    given = module.InferInput(name, [2, 32, 32, 3], datatype)
    given.set_data_from_numpy(GOLDEN.images[:2].astype(np.int8 if datatype == "INT8" else np.uint8))
    with pytest.raises(InferenceServerException) as rejected:
        client.infer(model, [given], model_version=version)
    http_code = {"NOT_FOUND": "404", "INVALID_ARGUMENT": "400"}[code]
    status = str(rejected.value.status())
    assert code in status or http_code in status
    assert "Expected: " in rejected.value.message()


def test_limits_and_deadlines_hold_over_grpc(server: Addresses) -> None:
    client = triton_grpc.InferenceServerClient(server.grpc)
    for settings, code in (({"timeout": 1}, "DEADLINE_EXCEEDED"), ({"client_timeout": 1e-6}, "DEADLINE_EXCEEDED")):
        with pytest.raises(InferenceServerException, match=code) as rejected:
            client.infer(MODEL, [images_input(triton_grpc)], **settings)
        assert code in str(rejected.value.status())
    too_many = triton_grpc.InferInput("images", [513, 32, 32, 3], "UINT8")
    too_many.set_data_from_numpy(np.zeros((513, 32, 32, 3), np.uint8))
    too_large = triton_grpc.InferInput("images", [700, 32, 32, 3], "UINT8")
    too_large.set_data_from_numpy(np.zeros((700, 32, 32, 3), np.uint8))
    for given in (too_many, too_large):
        with pytest.raises(InferenceServerException, match="RESOURCE_EXHAUSTED"):
            client.infer(MODEL, [given])
    client.close()


def test_operator_loads_and_unloads(triton: tuple[Any, Any]) -> None:
    client, _ = triton
    with pytest.raises(InferenceServerException, match="the token is missing"):
        client.unload_model(MODEL)

    def states() -> dict[str, str]:
        index = client.get_model_repository_index(headers=AUTHORIZED)
        entries = index if isinstance(index, list) else [{"version": m.version, "state": m.state} for m in index.models]
        return {entry["version"]: entry["state"] for entry in entries}

    assert states() == {VERSION: "READY", "1": "UNAVAILABLE"}
    client.unload_model(MODEL, headers=AUTHORIZED)
    assert states()[VERSION] == "UNAVAILABLE"
    client.load_model(MODEL, headers=AUTHORIZED)
    assert states()[VERSION] == "READY"
    with pytest.raises(InferenceServerException, match="would change a published version"):
        client.load_model(MODEL, headers=AUTHORIZED, config="{}")


def test_contents_of_their_type_are_answered_in_kind(server: Addresses) -> None:
    request = service_pb2.ModelInferRequest(model_name=MODEL, id="7")
    given = request.inputs.add(name="images", datatype="UINT8", shape=[2, 32, 32, 3])
    given.contents.uint_contents.extend(GOLDEN.images[:2].ravel().tolist())
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        response = infer(request)
        found = np.array(response.outputs[0].contents.fp32_contents).reshape(2, 10)
        assert np.abs(found - GOLDEN.probabilities[:2]).max() < 1e-5
        given.contents.uint_contents[0] = 256
        request.raw_input_contents.append(b"x")
        for words in ("expected: one raw", "range(0, 256)"):
            with pytest.raises(grpc.RpcError) as rejected:
                infer(request)
            assert rejected.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert words in rejected.value.details().lower()
            del request.raw_input_contents[:]


def test_health_service_says_what_readyz_says(server: Addresses) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "inference.GRPCInferenceService"):
            wait_until(partial(is_serving, health, name))


def is_serving(health: health_pb2_grpc.HealthStub, name: str) -> bool:
    answer = health.Check(health_pb2.HealthCheckRequest(service=name))
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_idle_stream_with_pings_of_its_client_stays_open(server: Addresses) -> None:
    options = (("grpc.keepalive_time_ms", 1000), ("grpc.http2.max_pings_without_data", 0), ("grpc.enable_retries", 0))
    with grpc.insecure_channel(server.grpc, options) as channel:
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        wait_until(lambda: next(watched).status == health_pb2.HealthCheckResponse.SERVING)
        time.sleep(
            5
        )  # five pings, which gRPC sends no faster; by default the third within five minutes is one too many
        assert watched.is_active()
        watched.cancel()


def test_reflected_messages_are_those_that_tritons_client_was_made_of(server: Addresses) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        reflected = ProtoReflectionDescriptorDatabase(channel)
        assert "inference.GRPCInferenceService" in reflected.get_services()
        ours = reflected.FindFileContainingSymbol("inference.GRPCInferenceService")
    theirs = descriptor_pb2.FileDescriptorProto()
    service_pb2.DESCRIPTOR.CopyToProto(theirs)
    configuration = descriptor_pb2.FileDescriptorProto()
    model_config_pb2.DESCRIPTOR.CopyToProto(configuration)
    their_messages = {message.name: message for message in (*theirs.message_type, *configuration.message_type)}
    for message in ours.message_type:
        assert _fields(message).items() <= _fields(their_messages[message.name]).items(), message.name
        if message.name not in SUBSETS:
            assert _fields(message) == _fields(their_messages[message.name]), message.name
    for enumeration, known in zip(ours.enum_type, configuration.enum_type, strict=True):
        assert enumeration == known
    their_methods = {method.name: (method.input_type, method.output_type) for method in theirs.service[0].method}
    assert {m.name: (m.input_type, m.output_type) for m in ours.service[0].method}.items() <= their_methods.items()


SUBSETS = {"ModelConfig", "ModelInput", "ModelOutput", "ModelDynamicBatching", "ModelStatistics"}
"""Of these we have some of the fields."""


def _fields(message: Any, prefix: str = "") -> dict[str, tuple[Any, ...]]:
    """Number, label and type of each field, those of messages within it, too."""
    found = {
        f"{prefix}{field.name}": (field.number, field.label, field.type, field.type_name) for field in message.field
    }
    for nested in message.nested_type:
        found |= _fields(nested, f"{prefix}{nested.name}.")
    return found


def test_metrics_count_grpc_requests(server: Addresses) -> None:
    text = httpx.get(f"http://{server.http}/metrics").text
    assert f'cifar10_requests_total{{model="{MODEL}",status="200",version="{VERSION}"}}' in text
    assert 'cifar10_expired_total{model="sequential"' in text


def test_large_json_does_not_hold_up_small_requests(server: Addresses) -> None:
    # 1.9 MB of nested lists, whose last number is wrong: it is read to its end, and nothing is computed.
    wrong = np.full((160, 32, 32, 3), 7).tolist()
    wrong[-1][-1][-1][-1] = 256
    given = {"name": "images", "datatype": "UINT8", "shape": [160, 32, 32, 3], "data": wrong}
    body = json.dumps({"inputs": [given]}, separators=(",", ":")).encode()
    file = SAMPLES[0].file.read_bytes()
    taken_s: list[float] = []

    def ask_large() -> float:
        start_s = time.monotonic()
        response = httpx.post(f"http://{server.http}/v2/models/{MODEL}/infer", content=body, timeout=60)
        assert (response.status_code, "range(0, 256)" in response.text) == (400, True)
        return time.monotonic() - start_s

    with ThreadPoolExecutor(1) as thread, httpx.Client(base_url=f"http://{server.http}") as client:
        thread.submit(ask_large).result()  # starts the process that reads
        large = thread.submit(ask_large)
        while not large.done():
            start_s = time.monotonic()
            client.post("/predict", content=file, headers={"Content-Type": "image/png"}).raise_for_status()
            taken_s.append(time.monotonic() - start_s)
    assert len(taken_s) > 2
    assert median(taken_s) < large.result() / 2, (taken_s, large.result())


def test_port_that_is_taken_is_said_before_anything_is_loaded(server: Addresses) -> None:
    port = server.grpc.partition(":")[2]
    command = [sys.executable, "-m", "service", "--port", str(free_port()), "--grpc-port", port]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert f"port {port}" in result.stderr
    assert "CIFAR10_GRPC_PORT" in result.stderr


DOCUMENT = (ROOT / "docs/protocols.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```(sh|python)\n(.*?)^```", DOCUMENT, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("language", "program"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_of_the_document_work_as_they_stand(server: Addresses, language: str, program: str) -> None:
    text = program.replace("localhost:8000", server.http).replace("localhost:8001", server.grpc)
    command = (
        ["bash", "-euo", "pipefail", "-c", text] if language == "sh" else [sys.executable, "-W", "error", "-c", text]
    )
    environment = os.environ | {"CIFAR10_ADMIN_TOKEN": GIVEN}
    result = subprocess.run(
        command, cwd=ROOT / "tests/images", env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    if "infer" in program and "classification" in program:
        assert "3:cat" in result.stdout


def pending_requests(server: Addresses) -> float:
    lines = httpx.get(f"http://{server.http}/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("cifar10_pending_requests "))


def test_stop_answers_what_was_accepted_over_grpc_beside_http_and_exits_0(server: Addresses) -> None:
    # The last test here: it ends the server that the others share.
    answered: SimpleQueue[Any] = SimpleQueue()
    client = triton_grpc.InferenceServerClient(server.grpc)
    given = triton_grpc.InferInput("images", [512, 32, 32, 3], "UINT8")
    given.set_data_from_numpy(GOLDEN.images.repeat(8, axis=0))
    streamed: SimpleQueue[Any] = SimpleQueue()
    client.start_stream(lambda result, error: streamed.put(error or result))
    client.async_stream_infer(MODEL, [images_input(triton_grpc)])
    assert_golden(streamed.get(timeout=20))
    host, _, port = server.http.partition(":")
    upload = socket.create_connection((host, int(port)))
    upload.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
    for _ in range(4):
        client.async_infer(MODEL, [given], callback=lambda result, error: answered.put(error or result))
    while pending_requests(server) + answered.qsize() < 5:
        pass
    server.process.send_signal(signal.SIGTERM)
    for _ in range(4):
        answer = answered.get(timeout=20)
        assert not isinstance(answer, Exception), answer
        assert answer.as_numpy("probabilities").shape == (512, 10)
    assert "UNAVAILABLE" in str(streamed.get(timeout=20))
    client.stop_stream()
    # HTTP still waits for the upload: gRPC doesn't wait for HTTP.
    with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
        client.is_server_live()
    assert server.process.poll() is None
    upload.close()
    assert server.process.wait(20) == 0
    client.close()
