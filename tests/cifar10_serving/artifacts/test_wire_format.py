from io import BytesIO

import pytest

from cifar10_serving.artifacts.wire_format import fields, messages, text, whole


def test_fields_of_a_message_are_found() -> None:
    content = b"\x08\x96\x01\x12\x03abc\x19" + b"\0" * 8 + b"\x25" + b"\0" * 4
    found = list(fields(BytesIO(content), whole(len(content))))
    assert [(field.number, field.kind) for field in found] == [(1, 0), (2, 2), (3, 1), (4, 5)]
    assert found[0].value == 150
    assert text(BytesIO(content), found[1]) == "abc"


def test_number_where_a_message_should_be_is_passed_over() -> None:
    assert list(messages(BytesIO(b"\x10\x01"), whole(2), 2)) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x92\x80\x80\x80\x80\x01\x00", "number is too large"),  # other readers cut it to field 2
        (b"\x0b", "unknown kind 3"),
        (b"\x12\x05", "longer than its message"),
        (b"\xff" * 11, "too long"),
    ],
)
def test_what_other_readers_may_read_otherwise_is_an_error(content: bytes, words: str) -> None:
    with pytest.raises((ValueError, EOFError), match=words):
        list(fields(BytesIO(content), whole(len(content))))
