"""Invalid and large messages; `tests/e2e/test_protocol_clients.py` uses real clients."""

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc
import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.api.kserve.generated import open_inference_pb2 as pb2
from service.api.kserve.grpc_server import CLIENT_LEFT_ERROR, GRPC_LOGGER, QUESTION_BYTES, SERVICE
from service.settings import Settings
from tests.conftest import newest_version, ready_client
from tests.e2e.server import free_port
from tests.garbage import bytes_left_by
from tests.reading import reading_processes
from tests.service.api.kserve.requests import GOLDEN, MODEL, assert_golden, elements
from tests.version_copies import publish_copy

GIVEN = "a-secret-of-some-length"
LARGE = b"\xff" * 2**20
Tensor = pb2.ModelInferRequest.InferInputTensor


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, grpc.Channel]]:
    folder = tmp_path_factory.mktemp("models")
    (folder / MODEL).mkdir()
    publish_copy(folder, newest_version(MODEL), source=newest_version(MODEL))
    port = free_port()
    settings = Settings(models=folder, grpc_port=port, admin_token=GIVEN)
    with ready_client(settings) as client, grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield client, opened


@pytest.fixture
def channel(service: tuple[TestClient, grpc.Channel]) -> grpc.Channel:
    return service[1]


def asked(channel: grpc.Channel, content: bytes, method: str = "ModelInfer") -> bytes:
    """The answer's bytes."""
    answer: bytes = channel.unary_unary(f"/{SERVICE}/{method}")(content, timeout=60)
    return answer


def rejection(channel: grpc.Channel, content: bytes, method: str = "ModelInfer") -> tuple[str, str]:
    """Return the status code and the text of a rejection."""
    with pytest.raises(grpc.RpcError) as rejected:
        asked(channel, content, method)
    return rejected.value.code().name, rejected.value.details()


def message(*contents: bytes, model: str = MODEL, request_id: str = "", **tensor: Any) -> bytes:
    """A `ModelInferRequest` for images, with these raw contents."""
    given = {"name": "images", "datatype": "UINT8", "shape": [1, 32, 32, 3]} | tensor
    request = pb2.ModelInferRequest(
        model_name=model, id=request_id, inputs=[Tensor(**given)], raw_input_contents=contents
    )
    encoded: bytes = request.SerializeToString()
    return encoded


def values(**contents: Any) -> Any:
    return pb2.InferTensorContents(**contents)


ONE = [7] * 3072


def test_large_contents_of_their_type_are_read_in_a_process_of_their_own(channel: grpc.Channel) -> None:
    # The first test here, before another has this process started.
    before = reading_processes()
    asked(channel, message(bytes(3072 * 200), shape=[200, 32, 32, 3]))
    assert reading_processes() <= before
    contents = values(uint_contents=np.tile(GOLDEN.images[:64], (2, 1, 1, 1)).ravel().tolist())
    answer = pb2.ModelInferResponse.FromString(asked(channel, message(shape=[128, 32, 32, 3], contents=contents)))
    assert_golden(answer.outputs[0].contents.fp32_contents[:640], 64)
    assert len(reading_processes() - before) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LARGE, "1,048,576 bytes of the request are not a message of type inference.ModelInferRequest"),
        (b"\x0a\x02\xff\xfe", "4 bytes of the request are not a message"),
        (b"\x2a\x00" * 300_000, "300000 inputs"),
        (message(contents=values(int_contents=ONE)), "has int_contents. Expected: uint_contents"),
        (message(contents=values(uint_contents=ONE, fp32_contents=ONE)), "has fp32_contents"),
        (message(contents=values(uint_contents=[7] * 400_000)), "400,000 elements. Expected: 3,072"),
        (message(shape=[2**62, 32, 32, 3], contents=values(uint_contents=ONE)), "3,072 elements"),
        (message(elements(b"a", b"b"), name="image_bytes", datatype="BYTES", shape=[1]), "more than 1 elements"),
    ],
)  # fmt: skip
def test_wrong_message_is_rejected_in_words(channel: grpc.Channel, content: bytes, words: str) -> None:
    code, details = rejection(channel, content)
    assert code == "INVALID_ARGUMENT"
    assert words in details


@pytest.mark.parametrize(
    ("method", "content", "code"),
    [
        ("ModelReady", b"\xff", "INVALID_ARGUMENT"),
        ("ModelReady", b"\x0a\x00" * QUESTION_BYTES, "RESOURCE_EXHAUSTED"),
        ("RepositoryModelLoad", LARGE, "UNAUTHENTICATED"),
        ("ModelInfer", message(bytes(2052), name="image_bytes", datatype="BYTES", shape=[513]), "RESOURCE_EXHAUSTED"),
        ("ModelInfer", message(shape=[513, 32, 32, 3], contents=values(uint_contents=ONE * 513)), "RESOURCE_EXHAUSTED"),
    ],
)  # fmt: skip
def test_what_is_too_large_or_not_allowed_is_rejected_unread(
    channel: grpc.Channel, method: str, content: bytes, code: str
) -> None:
    assert rejection(channel, content, method)[0] == code


def test_stream_goes_on_after_what_is_no_message(channel: grpc.Channel) -> None:
    typed = message(request_id="2", contents=values(uint_contents=[7] * 400_000))
    sent = [b"\x1a\x011" + LARGE, typed, message(GOLDEN.images[:1].tobytes(), request_id="3")]
    answers = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(iter(sent), timeout=60)
    wrong, other, right = map(pb2.ModelStreamInferResponse.FromString, answers)
    assert "are not a message" in wrong.error_message
    assert "400,000 elements" in other.error_message
    assert not right.error_message
    assert [each.infer_response.id for each in (wrong, other, right)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    "content",
    [
        LARGE,
        message(LARGE),
        message(bytes(3072 * 300), shape=[300, 32, 32, 3], model="alexnet"),
        message(elements(LARGE), name="image_bytes", datatype="BYTES", shape=[1]),
    ],
    ids=["no message", "wrong size", "unknown model", "no image"],
)
def test_rejected_message_leaves_nothing_behind(channel: grpc.Channel, content: bytes) -> None:
    def ask() -> None:
        with suppress(grpc.RpcError):
            asked(channel, content)

    ask()
    assert bytes_left_by(ask) < len(content) / 2


def test_client_that_leaves_is_counted_as_over_http(service: tuple[TestClient, grpc.Channel]) -> None:
    client, channel = service
    rows = 512
    content = message(bytes(3072 * rows), shape=[rows, 32, 32, 3])
    gone = f'cifar10_requests_total{{model="{MODEL}",status="400",version='
    deadline_s = time.monotonic() + 20
    while gone not in (told := client.get("/metrics").text) and time.monotonic() < deadline_s:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer").future(content)
        time.sleep(0.02)
        call.cancel()
    assert gone in told
    assert 'status="0"' not in told


def test_client_that_leaves_in_the_moment_of_its_answer_is_no_fault(
    channel: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    asked(channel, message(GOLDEN.images[:1].tobytes()))
    gone = type(CLIENT_LEFT_ERROR, (Exception,), {})()
    for error in (gone, RuntimeError()):
        logging.getLogger(GRPC_LOGGER).error("raised", exc_info=error)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [RuntimeError]
