"""The outline of a message agrees with the message, and of anything else it says that reading it is costly."""

import pytest

from service.api.open_inference_grpc.generated import open_inference_pb2 as pb2
from service.api.open_inference_grpc.outline import MOST_FIELDS, Outline, outline_of

RAW = bytes(100_000)


def message(**fields: object) -> bytes:
    content: bytes = pb2.ModelInferRequest(model_name="sequential", id="é7", **fields).SerializeToString()
    return content


def test_raw_contents_are_cheap_and_everything_else_is_costly() -> None:
    tensor = pb2.ModelInferRequest.InferInputTensor
    raw = message(inputs=[tensor(name="images", shape=[1, 32, 32, 3])], raw_input_contents=[RAW, RAW])
    contents = pb2.InferTensorContents(uint_contents=[200] * 50_000)
    typed = message(inputs=[tensor(name="images", contents=contents)])
    request_id, costly_bytes = outline_of(raw)
    assert (request_id, costly_bytes < 100) == ("é7", True)
    assert outline_of(typed) == Outline("é7", len(typed))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 1000,
        b"\x80" * 1000,
        b"\x3a",
        b"\x3a\xff\xff\xff\xff\x7f" + RAW,
        message(raw_input_contents=[RAW])[:-1],
        b"\x38\x01" + b"\x3a\x02ab",
    ],
)
def test_what_is_no_message_is_costly_from_there_on(content: bytes) -> None:
    assert outline_of(content).costly_bytes == len(content)


def test_many_small_raw_contents_are_costly() -> None:
    content = b"\x3a\x01x" * 10_000
    assert outline_of(content).costly_bytes == len(content) - MOST_FIELDS
