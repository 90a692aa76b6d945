import json

import pytest
from pydantic import BaseModel, ConfigDict

from cifar10_serving.artifacts.documents import DocumentError, parse_document, printable


class Shown(BaseModel):
    """A schema that takes anything under one key."""

    model_config = ConfigDict(extra="forbid")

    value: object = None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_of_editors_are_read(encoding: str) -> None:
    assert parse_document('{"value": "ä😀"}'.encode(encoding), Shown).value == "ä😀"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Invalid JSON"),
        (b"\0", "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b'{"value": 1} x', "Invalid JSON"),
        (b'{"value": "\xff"}', "byte 11 is not UTF-8"),
        ("\ufeff{".encode("utf-16-le") + b"\xd8", "is not UTF-16"),
        (b'{"value": NaN}', "NaN is not a number"),
        (b'{"value": -Infinity}', "-Infinity is not a number"),
        (b'{"value": 1e999}', "1e999 is too large"),
        (b'{"value": 9223372036854775808}', "9223372036854775808 is too large"),
        (b'{"value": ' + b"9" * 10_000 + b"}", "9… is too large"),
        (b'{"value": 1, "value": 2}', "the key 'value' is repeated"),
        (json.dumps(dict.fromkeys(map(str, range(10_001)))).encode(), "an object has more than 10,000 keys"),
        (b'{"value": {"a\\nb": 1, "a\\nb": 2}}', r"the key 'a\nb' is repeated"),
        (b'{"value": "\\ud800"}', "Invalid JSON"),
        (b'{"value": ' + b"[" * 65 + b"]" * 65 + b"}", "nested more than 64 levels deep"),
        (b'{"value": ' + b'{"a": ' * 100_000, "nested more than 64 levels deep"),
        (b"[" * 500_000, "nested more than 64 levels deep"),
        (b"null", "should be an object"),
        (b'{"va\\nlue": 1}', r"va\nlue: Extra inputs"),
        (json.dumps({"x" * 10_000: 1}).encode(), "x…: Extra inputs"),
        (json.dumps({str(number): 1 for number in range(50)}).encode(), "and 47 more"),
    ],
)
def test_anything_else_is_said_in_one_short_line(content: bytes, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_document(content, Shown)
    said = str(caught.value)
    assert words in said
    assert said.isprintable()
    assert len(said) < 1_000


def test_nesting_and_numbers_at_their_limits_are_read() -> None:
    content = b'{"value": [' + b"[" * 61 + b"9223372036854775807, -9223372036854775808, 1e308" + b"]" * 61 + b"]}"
    assert parse_document(content.replace(b", -9223372036854775808", b""), Shown).value


def test_text_of_others_becomes_one_line() -> None:
    assert printable("a\r\nb\x1b[31m\u2028\ud800") == r"a\r\nb\x1b[31m\u2028\ud800"
    assert printable("x" * 200) == "x" * 99 + "…"
