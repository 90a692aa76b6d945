import pytest

from cifar10_serving.errors import StoreError
from cifar10_serving.stores.address import is_address, parse_address, redacted


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/models",
        "gs://bucket",
        "az://container/models",
        "abfs://container@account.dfs.core.windows.net/models",
        "hf://user/models",
        "https://example.org/models.tar.gz",
        "http://registry.local:8080/a/models.ZIP",
        "file:///srv/models",
        "memory://bucket/models",
    ],
)
def test_legal_addresses(url: str) -> None:
    assert is_address(url)
    assert str(parse_address(f"{url}/" if "." not in url else url)) == url


def test_folders_are_no_addresses() -> None:
    assert not any(map(is_address, ("models", "/srv/models", "C:\\models", "./s3/models", "~/models")))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://host/models", "the scheme 'ftp' is not known"),
        ("https://example.org/models", "needs the address of an archive"),
        ("s3://", "names no bucket or host"),
        ("file://", "names no folder"),
        ("s3://bucket/a b", "characters that are not allowed"),
        ("s3://bucket/*", "characters that are not allowed"),
        ("s3://bucket/a::zip://b", "characters that are not allowed"),
        ("s3://[bucket/a", "malformed"),
        (f"s3://bucket/{'a' * 1000}", "too long"),
    ],
)
def test_other_addresses_are_errors(url: str, problem: str) -> None:
    with pytest.raises(StoreError, match=problem):
        parse_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hush@bucket/models",
        "s3://hush@bucket/models",
        "abfs://user:hush@account/models",
        "https://example.org/models.zip?X-Amz-Signature=hush",
        "https://example.org/models.zip#hush",
        "s3://bucket/models?hush",
    ],
)
def test_credentials_are_rejected_and_not_shown(url: str) -> None:
    with pytest.raises(StoreError, match="contains credentials") as raised:
        parse_address(url)
    assert "hush" not in str(raised.value)


def test_text_of_other_programs_is_redacted() -> None:
    text = "403 for https://me:hush@host/a?sig=hush, key AKIAABCDEFGHIJKLMNOP"
    assert redacted(text) == "403 for https://…host/a… key …"
