"""Every call of tritonclient's four clients is answered, or rejected as Triton's documentation says.

It is the one of docs/protocols.md, too. A call that a later tritonclient adds fails here until somebody decides on it.
"""

import asyncio
import gc
import inspect
import re
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from tritonclient.utils import InferenceServerException

from tests.conftest import ROOT, newest_version
from tests.e2e.server import free_port, running_server
from tests.service.api.kserve.requests import GOLDEN, MODEL, assert_golden
from tests.version_copies import publish_copy

pytestmark = [
    pytest.mark.slow,
    # tritonclient.http.aio leaves answers unread that have no body, of load and unload.
    pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def unclosed_connections_end_here() -> Iterator[None]:
    """Collect them before the next file's tests, which ignore no such warning."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


GIVEN = "a-secret-of-some-length"
AUTHORIZED = {"authorization": f"Bearer {GIVEN}"}
CLIENTS = {
    "http": triton_http,
    "grpc": triton_grpc,
    "http.aio": triton_http_aio,
    "grpc.aio": triton_grpc_aio,
}
UNSUPPORTED = {"http": "501", "grpc": "StatusCode.UNIMPLEMENTED"}


@dataclass(frozen=True)
class Addresses:
    """The addresses of a server."""

    http: str
    grpc: str


@dataclass(frozen=True)
class Call:
    """A call with its arguments; `rejected` is part of the error's text if the call is rejected."""

    method: str
    arguments: Callable[[Any], dict[str, Any]]
    rejected: str = ""

    def __str__(self) -> str:
        return self.method


def pixels(module: Any, rows: int = 2) -> Any:
    given = module.InferInput("images", [rows, 32, 32, 3], "UINT8")
    given.set_data_from_numpy(GOLDEN.images[:rows])
    return given


def in_shared_memory(module: Any) -> Any:
    given = module.InferInput("images", [1, 32, 32, 3], "UINT8")
    given.set_shared_memory("region", 3072)
    return given


def fixed(**arguments: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda _: arguments


NAMED = fixed(model_name=MODEL)
OF_VERSION = fixed(model_name=MODEL, model_version="2")
STATEFUL: dict[str, Any] = {"sequence_id": 7, "sequence_start": True, "sequence_end": True, "priority": 1}
WITH_FILES = Call(
    "load_model",
    fixed(model_name=MODEL, headers=AUTHORIZED, config="{}", files={"file:1/model": b"x"}),
    "would change a published version",
)
CALLS = [
    *[Call(f"is_server_{state}", fixed()) for state in ("live", "ready")],
    *[Call(f"{name}", given) for name in ("is_model_ready", "get_model_metadata") for given in (NAMED, OF_VERSION)],
    Call("get_server_metadata", fixed()),
    *[Call("get_model_config", given) for given in (NAMED, OF_VERSION)],
    *[Call("get_inference_statistics", given) for given in (fixed(), NAMED, OF_VERSION)],
    Call("get_model_repository_index", fixed(headers=AUTHORIZED)),
    Call("unload_model", fixed(model_name=MODEL, headers=AUTHORIZED)),
    Call("load_model", fixed(model_name=MODEL, headers=AUTHORIZED)),
    Call("load_model", fixed(model_name=MODEL, headers=AUTHORIZED, config="{}"), "would change a published version"),
    WITH_FILES,
    Call("infer", lambda module: {"model_name": MODEL, "inputs": [pixels(module)], "request_id": "1"}),
    Call(
        "infer",
        lambda module: {"model_name": MODEL, "inputs": [pixels(module)], "parameters": {"mine": "yes"}, **STATEFUL},
    ),
    Call(
        "infer",
        lambda module: {"model_name": MODEL, "inputs": [in_shared_memory(module)]},
        "shared memory, which this server doesn't support",
    ),
    Call("get_trace_settings", fixed(), "trace settings"),
    Call("get_trace_settings", NAMED, "trace settings"),
    Call("update_trace_settings", fixed(settings={"trace_level": ["OFF"]}), "trace settings"),
    Call("update_trace_settings", fixed(model_name=MODEL, settings={"trace_rate": "1"}), "trace settings"),
    Call("get_log_settings", fixed(), "log settings"),
    Call("update_log_settings", fixed(settings={"log_verbose_level": 1}), "log settings"),
    *[
        Call(f"{call}_{kind}_shared_memory{suffix}", fixed(**arguments), f"{words} shared memory")
        for kind, words, place in (
            ("system", "system", {"key": "/key", "byte_size": 16}),
            ("cuda", "CUDA", {"raw_handle": b"aGFuZGxl", "device_id": 0, "byte_size": 16}),
        )
        for call, suffix, arguments in (
            ("get", "_status", {}),
            ("get", "_status", {"region_name": "region"}),
            ("register", "", {"name": "region", **place}),
            ("unregister", "", {}),
            ("unregister", "", {"name": "region"}),
        )
    ],
]
# tritonclient.http.aio 2.60 can't write files into its JSON.
CASES = [(kind, call) for kind in CLIENTS for call in CALLS if (kind, call) != ("http.aio", WITH_FILES)]
ELSEWHERE = {
    "close", "plugin", "register_plugin", "unregister_plugin", "generate_request_body", "parse_response_body",
    "async_infer", "start_stream", "async_stream_infer", "stop_stream", "stream_infer",
}  # fmt: skip
"""Asked by tests of their own, below, or by none since they ask no server (plugins)."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    folder = tmp_path_factory.mktemp("models")
    (folder / MODEL).mkdir()
    publish_copy(folder, 2, source=newest_version(MODEL))
    port = free_port()
    log = tmp_path_factory.mktemp("log") / "server.log"
    with running_server(
        log, CIFAR10_MODELS=str(folder), CIFAR10_GRPC_PORT=str(port), CIFAR10_ADMIN_TOKEN=GIVEN
    ) as running:
        yield Addresses(running.url.removeprefix("http://"), f"127.0.0.1:{port}")
        assert "Traceback" not in log.read_text()


def asked(server: Addresses, kind: str, method: str, arguments: dict[str, Any]) -> Any:
    """Return the result of the client's method."""
    module, protocol = CLIENTS[kind], kind.partition(".")[0]
    client_of, address = module.InferenceServerClient, getattr(server, protocol)
    if not kind.endswith(".aio"):
        client = client_of(address)
        try:
            return getattr(client, method)(**arguments)
        finally:
            client.close()

    async def ask() -> Any:
        async with client_of(address) as client:
            return await getattr(client, method)(**arguments)

    return asyncio.run(ask())


@pytest.mark.parametrize("kind", CLIENTS)
def test_no_call_is_left_out(kind: str) -> None:
    public = {name for name in dir(CLIENTS[kind].InferenceServerClient) if not name.startswith("_")}
    assert public <= {call.method for call in CALLS} | ELSEWHERE


@pytest.mark.parametrize(("kind", "call"), CASES, ids=str)
def test_call_is_answered_or_rejected_in_words(server: Addresses, kind: str, call: Call) -> None:
    arguments = call.arguments(CLIENTS[kind])
    if call.rejected:
        with pytest.raises(InferenceServerException) as rejected:
            asked(server, kind, call.method, arguments)
        assert call.rejected in rejected.value.message()
        assert str(rejected.value.status()) == UNSUPPORTED[kind.partition(".")[0]]
        return
    try:
        answer = asked(server, kind, call.method, arguments)
    finally:
        if call.method == "unload_model":
            asked(server, kind, "load_model", arguments)
    if call.method.startswith("is_"):
        assert answer is True
    if call.method == "infer":
        assert_golden(answer.as_numpy("probabilities"))


@pytest.mark.parametrize("kind", CLIENTS)
def test_model_that_there_is_not_is_not_ready(server: Addresses, kind: str) -> None:
    for arguments in ({"model_name": "alexnet"}, {"model_name": MODEL, "model_version": "99"}):
        assert asked(server, kind, "is_model_ready", arguments) is False


def statistics_of(server: Addresses, kind: str) -> Any:
    told = asked(server, kind, "get_inference_statistics", {"model_name": MODEL})
    return told["model_stats"][0] if isinstance(told, dict) else told.model_stats[0]


def read(record: Any, *names: str) -> Any:
    for name in names:
        record = record[name] if isinstance(record, dict) else getattr(record, name)
    return int(record)


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_statistics_count_what_was_asked(server: Addresses, kind: str) -> None:
    module = CLIENTS[kind]
    wrong = module.InferInput("images", [513, 32, 32, 3], "UINT8")
    wrong.set_data_from_numpy(np.zeros((513, 32, 32, 3), np.uint8))
    for _ in range(2):
        asked(server, kind, "infer", {"model_name": MODEL, "inputs": [pixels(module, 3)]})
    before = statistics_of(server, kind)
    asked(server, kind, "infer", {"model_name": MODEL, "inputs": [pixels(module, 3)]})
    with pytest.raises(InferenceServerException):
        asked(server, kind, "infer", {"model_name": MODEL, "inputs": [pixels(module)], "timeout": 1})
    after = statistics_of(server, kind)
    grown = {
        name: read(after, *name.split(".")) - read(before, *name.split("."))
        for name in (
            "inference_count",
            "execution_count",
            "inference_stats.success.count",
            "inference_stats.fail.count",
        )
    }
    # What passed its deadline may have been computed all the same.
    assert grown["inference_count"] in {3, 5}
    assert grown["execution_count"] in {1, 2}
    assert (grown["inference_stats.success.count"], grown["inference_stats.fail.count"]) == (1, 1)
    assert read(after, "last_inference") > 1_600_000_000_000
    computed_ns = read(after, "inference_stats", "compute_infer", "ns")
    assert 0 < computed_ns < read(after, "inference_stats", "success", "ns")
    sizes = after["batch_stats"] if isinstance(after, dict) else after.batch_stats
    assert 3 in [read(size, "batch_size") for size in sizes]


def test_configuration_is_the_same_over_both_protocols(server: Addresses) -> None:
    over_http = asked(server, "http", "get_model_config", {"model_name": MODEL})
    over_grpc = asked(server, "grpc", "get_model_config", {"model_name": MODEL, "as_json": True})["config"]
    assert over_http["max_batch_size"] == over_grpc["max_batch_size"] == 512
    assert over_http["input"] == [
        {"name": "images", "data_type": "TYPE_UINT8", "format": "FORMAT_NHWC", "dims": [32, 32, 3]}
    ]
    assert [int(size) for size in over_grpc["input"][0]["dims"]] == [32, 32, 3]
    assert over_grpc["input"][0]["format"] == "FORMAT_NHWC"
    assert over_http["output"] == [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": [10]}]
    assert over_http["version_policy"] == over_grpc["version_policy"] == {"latest": {"num_versions": 1}}
    assert over_http["dynamic_batching"]["preferred_batch_size"] == [32]
    assert over_grpc["dynamic_batching"]["preferred_batch_size"] == [32]
    assert over_http["backend"] == over_grpc["backend"] == "openvino"


def test_asynchronous_requests_of_the_blocking_clients(server: Addresses) -> None:
    over_http = triton_http.InferenceServerClient(server.http)
    assert_golden(over_http.async_infer(MODEL, [pixels(triton_http)]).get_result().as_numpy("probabilities"))
    over_http.close()
    answered: SimpleQueue[Any] = SimpleQueue()
    over_grpc = triton_grpc.InferenceServerClient(server.grpc)
    over_grpc.async_infer(MODEL, [pixels(triton_grpc)], lambda result, error: answered.put(error or result))
    assert_golden(answered.get(timeout=20).as_numpy("probabilities"))
    over_grpc.close()


@pytest.mark.parametrize("module", [triton_http, triton_http_aio])
def test_bodies_of_the_http_clients_go_by_any_other_client(server: Addresses, module: Any) -> None:
    client = module.InferenceServerClient
    body, length = client.generate_request_body(
        [pixels(module)], outputs=[module.InferRequestedOutput("probabilities")]
    )
    headers = {"Inference-Header-Content-Length": str(length)}
    response = httpx.post(f"http://{server.http}/v2/models/{MODEL}/infer", content=body, headers=headers)
    header_length = int(response.headers["inference-header-content-length"])
    found = client.parse_response_body(response.content, header_length=header_length)
    assert_golden(found.as_numpy("probabilities"))


def test_streams_answer_each_request_and_outlive_a_wrong_one(server: Addresses) -> None:
    answered: SimpleQueue[Any] = SimpleQueue()
    client = triton_grpc.InferenceServerClient(server.grpc)
    client.start_stream(lambda result, error: answered.put(error or result), stream_timeout=20)
    for request_id, model in (("1", MODEL), ("2", "alexnet"), ("3", MODEL)):
        client.async_stream_infer(model, [pixels(triton_grpc)], request_id=request_id)
    first, wrong, last = (answered.get(timeout=20) for _ in range(3))
    client.stop_stream()
    client.close()
    assert "there is no model 'alexnet'" in wrong.message()
    for answer, request_id in ((first, "1"), (last, "3")):
        assert answer.get_response().id == request_id
        assert_golden(answer.as_numpy("probabilities"))


@pytest.mark.anyio
async def test_streams_of_the_asyncio_client(server: Addresses) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for request_id in ("1", "2"):
            yield {"model_name": MODEL, "inputs": [pixels(triton_grpc_aio)], "request_id": request_id}

    async with triton_grpc_aio.InferenceServerClient(server.grpc) as client:
        answers = [answer async for answer in client.stream_infer(requests(), stream_timeout=20)]
    for number, (result, error) in enumerate(answers, 1):
        assert error is None
        assert result.get_response().id == str(number)
        assert_golden(result.as_numpy("probabilities"))


def test_table_of_the_document_is_this_one() -> None:
    document = (ROOT / "docs/protocols.md").read_text(encoding="utf-8")
    section = document.partition("### Every call of tritonclient")[2].partition("\n## ")[0]
    documented: dict[str, str] = {}
    for names, outcome in re.findall(r"^\| (`.*?) \| (answered|rejected)", section, flags=re.MULTILINE):
        documented |= dict.fromkeys(re.findall(r"`(\w+)`", names), outcome)
    always_rejected = {call.method for call in CALLS} - {call.method for call in CALLS if not call.rejected}
    everything = {name for module in CLIENTS.values() for name, _ in inspect.getmembers(module.InferenceServerClient)}
    public = {name for name in everything if not name.startswith("_") and "plugin" not in name}
    assert {name for name, outcome in documented.items() if outcome == "rejected"} == always_rejected
    assert set(documented) == public
