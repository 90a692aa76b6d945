"""The parse estimate of a message matches the message; invalid messages count as expensive."""

import pytest

from service.api.kserve.generated import open_inference_pb2 as pb2
from service.api.kserve.grpc_codec import MAX_FIELDS, ParseEstimate, estimate_parse

RAW = bytes(100_000)


def message(**fields: object) -> bytes:
    content: bytes = pb2.ModelInferRequest(model_name="sequential", id="é7", **fields).SerializeToString()
    return content


def test_raw_contents_are_cheap_and_everything_else_is_costly() -> None:
    tensor = pb2.ModelInferRequest.InferInputTensor
    raw = message(inputs=[tensor(name="images", shape=[1, 32, 32, 3])], raw_input_contents=[RAW, RAW])
    contents = pb2.InferTensorContents(uint_contents=[200] * 50_000)
    typed = message(inputs=[tensor(name="images", contents=contents)])
    request_id, parse_cost_bytes = estimate_parse(raw)
    assert (request_id, parse_cost_bytes < 100) == ("é7", True)
    assert estimate_parse(typed) == ParseEstimate("é7", len(typed))


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
    assert estimate_parse(content).parse_cost_bytes == len(content)


def test_many_small_raw_contents_are_costly() -> None:
    content = b"\x3a\x01x" * 10_000
    assert estimate_parse(content).parse_cost_bytes == len(content) - MAX_FIELDS
