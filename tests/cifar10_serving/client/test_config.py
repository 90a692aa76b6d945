"""Validation of value objects, and lenient parsing of addresses."""

import math

import pytest

from cifar10_serving.client import AddressError, Client, Retries, Timeouts
from cifar10_serving.client._config import parse_base_url


@pytest.mark.parametrize(
    "values", [{"connect_s": 0}, {"read_s": -1}, {"total_s": 0}, {"read_s": math.nan}, {"read_s": math.inf}]
)
def test_time_out_that_is_none_is_rejected(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Timeouts(**values)


@pytest.mark.parametrize(
    "values",
    [{"attempts": 0}, {"attempts_before_contact": 0}, {"first_wait_s": -1.0}, {"longest_wait_s": math.nan}],
)
def test_retries_that_are_none_are_rejected(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Retries(**values)  # type: ignore[arg-type]  # as a caller without a type checker would


def test_waits_grow_to_their_limit_are_spread_and_never_shorter_than_retry_after() -> None:
    retries = Retries(first_wait_s=0.5, longest_wait_s=4)
    for attempts_made, longest_s in ((1, 0.5), (2, 1), (3, 2), (4, 4), (50, 4), (5000, 4)):
        waits_s = [retries.wait_s(attempts_made) for _ in range(200)]
        assert 0 <= min(waits_s) < longest_s * 0.2
        assert longest_s * 0.8 < max(waits_s) <= longest_s
    assert 7 <= retries.wait_s(1, 7) <= 7.5


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("https://example.org/models-of-ours/", "https://example.org/models-of-ours/"),
        ("[::1]:9000", "http://[::1]:9000"),
        ("http://[fe80::1%25eth0]:9000", "http://[fe80::1%eth0]:9000"),
        (" http://x_y.example:1\n", "http://x_y.example:1"),
        ("http://localhost.", "http://localhost."),
        ("http://münchen.example", "http://xn--mnchen-3ya.example"),
    ],
)
def test_address_is_read_as_people_write_it(text: str, address: str) -> None:
    assert str(parse_base_url(text)) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "ftp://x", "http://", "x:port", "x:99999", "http://x/?model=y", "x/#a", "a b"),
        *(
            "x:0",
            "x:-1",
            "http://http://x",
            "https:/x",
            "http//x",
            "a..b",
            "http://.",
            f"{'a' * 64}.example",
            "*",
            "x\\y",
        ),
        *("x." * 130 + "x", "http://\u200bx", "http://\udcff", "[::1", "::1", "999.1.1.1", "two\nlines", "http://x y/"),
    ],
)
def test_what_is_no_address_is_told_before_anything_is_sent(text: str) -> None:
    with pytest.raises(AddressError, match="Expected: an address such as http://127"):
        Client(text)


@pytest.mark.parametrize("token", ["", "two\nlines", "schlüssel", " spaces "])
def test_token_that_no_header_may_hold_is_rejected(token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        Client(token=token)


@pytest.mark.parametrize(
    "text",
    ["http://me:s3cret@x:port", "me:s3cret@x:99999", "http://me:s3/cret@x", "http://me:s3cret@x/?a", "me:s3cret@"],
)
def test_password_of_a_wrong_address_is_not_shown(text: str) -> None:
    with pytest.raises(AddressError) as raised:
        Client(text)
    assert "s3" not in str(raised.value)
