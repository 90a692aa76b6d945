"""What is told of a `ModelInferRequest` without reading it: its id, and how long reading it may take.

The fields of the outermost message are passed over one by one, as https://protobuf.dev/programming-guides/encoding
has them. Reading, and saying what is wrong with a message, is `messages`' part.
"""

from typing import Final, NamedTuple

from service.api.open_inference_grpc.generated import open_inference_pb2 as pb2

FIELDS: Final = pb2.ModelInferRequest.DESCRIPTOR.fields_by_name
ID: Final = FIELDS["id"].number
RAW_CONTENTS: Final = FIELDS["raw_input_contents"].number
MOST_FIELDS: Final = 64
"""An honest message has fewer; whatever comes after them counts as costly."""
LENGTH_DELIMITED: Final = 2
LAST_BYTE_BELOW: Final = 0x80
VARINT_BYTES: Final = 10


class Outline(NamedTuple):
    """`id` is empty where none is found.

    `costly_bytes` are those that take long to read: all but the raw contents, which are only copied.
    """

    id: str
    costly_bytes: int


def outline_of(content: bytes) -> Outline:
    """The outline of a message, which may be anything."""
    request_id, raw_bytes, position = "", 0, 0
    for _ in range(MOST_FIELDS):
        key, start = _varint(content, position)
        if key & 7 != LENGTH_DELIMITED:
            break  # the end, or no message: none of its fields is anything else
        length, start = _varint(content, start)
        position = start + length
        if position > len(content):
            break
        if key >> 3 == RAW_CONTENTS:
            raw_bytes += length
        elif key >> 3 == ID:
            request_id = content[start:position].decode(errors="replace")
    return Outline(request_id, len(content) - raw_bytes)


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """The number at a position, and where it ends; 0 where there is none."""
    value = 0
    for index, byte in enumerate(content[position : position + VARINT_BYTES]):
        value |= (byte & (LAST_BYTE_BELOW - 1)) << (7 * index)
        if byte < LAST_BYTE_BELOW:
            return value, position + index + 1
    return 0, position
