"""Proxy variables: the one for the service's address is used, and the others don't matter."""

import os
from pathlib import Path

import pytest

from cifar10_serving import client
from cifar10_serving.client import Client, Retries, Timeouts
from cifar10_serving.client._config import parse_base_url
from cifar10_serving.client._connection import proxy_for
from tests.cifar10_serving.client.asking import Ask, both
from tests.cifar10_serving.client.scripted_server import ANSWERED, PREDICTION, scripted_server
from tests.e2e.server import free_port

ONCE = {"retries": Retries(attempts=1)}


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def named(url: str) -> str | None:
    proxy = proxy_for(parse_base_url(url))
    return None if proxy is None else str(proxy.url)


NOT_FOR_LOOPBACK = [
    {"http_proxy": "socks5://127.0.0.1:9"},
    {"ALL_PROXY": "socks4://x"},
    {"all_proxy": "ftp://x"},
    {"http_proxy": "http://x:99999"},
    {"http_proxy": "http://[::1"},
    {"HTTP_PROXY": "http://nobody.invalid:1"},
    {"ftp_proxy": "ftp://x", "no_proxy": "fe80::/10,10.0.0.0/8, ::1/128 ,[::2],*bad*,http://x:y"},
    {"http_proxy": " ", "no_proxy": " , ,"},
    {"SSL_CERT_FILE": "/nowhere", "SSL_CERT_DIR": "/nowhere", "SSLKEYLOGFILE": "/nowhere/x"},
    {"NETRC": "/nowhere"},
]


@both
@pytest.mark.parametrize("variables", NOT_FOR_LOOPBACK, ids=lambda variables: next(iter(variables.values())))
def test_this_machine_is_asked_directly_whatever_the_variables_say(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with scripted_server(ANSWERED) as scripted:
        assert ask(scripted.url, "predict", b"x", options=ONCE) == PREDICTION
        assert scripted.requests[0].startswith(b"POST /predict ")


@pytest.mark.parametrize("url", ["localhost", "http://LOCALHOST.", "a.localhost", "127.9.9.9:80", "[::1]", "[::1%lo]"])
def test_names_and_addresses_of_this_machine(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("all_proxy", "http://proxy.example")
    assert named(url) is None


@both
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"http_proxy": "socks5://me:s3cret@h:9"},
            "variable http_proxy names socks5://h, and SOCKS needs.*httpx.socks",
        ),
        (
            {"HTTP_PROXY": "ftp://x"},
            "variable HTTP_PROXY does not name a proxy. Expected: a proxy such as.*NO_PROXY=far.invalid",
        ),
        ({"all_proxy": "socks4://me:s3cret@x"}, "variable all_proxy does not name a proxy"),
        ({"http_proxy": "http://me:s3cret@x:port"}, "variable http_proxy does not name a proxy"),
        ({"http_proxy": "x:99999"}, "variable http_proxy names http://x, which is not a proxy's address"),
        ({"http_proxy": "http://"}, "variable http_proxy names http://, which is not a proxy's address"),
    ],
)
def test_proxy_that_can_not_be_used_is_one_clear_error(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    monkeypatch.setattr("cifar10_serving.client._connection.find_spec", lambda _: None)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(client.ConfigurationError, match=words) as raised:
        ask("http://far.invalid", "models")
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({"http_proxy": "http://p:1"}, "http://far.example", "http://p:1"),
        ({"http_proxy": "p:1"}, "http://far.example", "http://p:1"),
        ({"http_proxy": "http://p:1"}, "https://far.example", None),
        ({"https_proxy": "http://p:1", "all_proxy": "http://q"}, "https://far.example", "http://p:1"),
        ({"all_proxy": "HTTP://q"}, "https://far.example", "http://q"),
        ({"ftp_proxy": "http://p"}, "http://far.example", None),
    ],
)
def test_proxy_is_the_one_for_the_scheme(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, proxy: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert named(url) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", "far.example", True),
        ("x, *", "far.example", True),
        ("example", "far.example", True),
        (".far.example", "far.example", True),
        ("*.example", "far.example", True),
        ("FAR.example.", "far.example", True),
        ("http://far.example/", "far.example", True),
        ("ar.example", "far.example", False),
        ("near.example", "far.example", False),
        ("far.example:8000", "far.example:8000", True),
        ("far.example:8000", "far.example", False),
        ("far.example:80", "far.example", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3:8000", True),
        ("10.1.2.3:8000", "10.1.2.3:8000", True),
        ("fe80::/10", "[fe80::1]", True),
        ("fe80::/10", "[fd00::1]", False),
        ("[fd00::1]", "[fd00::1]:8000", True),
        ("fd00:0:0::1", "[fd00::1]", True),
        ("[fd00::1]:9", "[fd00::1]:8000", False),
        ("a b\tfar.example", "far.example", True),
        ("münchen.example", "münchen.example", True),
        ("xn--mnchen-3ya.example", "münchen.example", True),
        (" , ,,", "far.example", False),
    ],
)
def test_no_proxy_excepts_names_addresses_ranges_and_ports(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str, direct: bool
) -> None:
    monkeypatch.setenv("all_proxy", "http://p:1")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert (named(url) is None) == direct


@both
def test_proxy_is_asked_in_the_services_place(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_server(ANSWERED) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert ask("http://far.invalid/cifar10", "predict", b"x", options=ONCE) == PREDICTION
        assert proxy.requests[0].startswith(b"POST http://far.invalid/cifar10/predict ")


@both
def test_proxy_that_does_not_answer_is_named(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:s3cret@127.0.0.1:{free_port()}")
    with pytest.raises(client.UnreachableError, match=r"through the proxy http://127.0.0.1:.*no connection") as raised:
        ask("http://far.invalid", "models", options=ONCE)
    assert "s3cret" not in str(raised.value)


@both
@pytest.mark.parametrize("url", ["", "/", "/cifar10", "/cifar10/", "/a/b/"])
def test_path_of_an_address_goes_before_every_route(ask: Ask, url: str) -> None:
    with scripted_server(ANSWERED) as scripted:
        assert ask(scripted.url + url, "predict", b"x", options=ONCE) == PREDICTION
        assert scripted.requests[0].startswith(f"POST {url.rstrip('/')}/predict ".encode())


@both
@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"])
def test_certificates_that_are_not_there_are_told_where_they_are_needed(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    for other in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, str(tmp_path / "no" / "where"))
    if name == "SSL_CERT_DIR":  # OpenSSL reads it when a certificate is checked
        assert Client("https://far.invalid")
        return
    with pytest.raises(client.ConfigurationError, match=f"certificates can't be read: .*unset {name}=.*no.where"):
        ask("https://far.invalid", "models")


@both
def test_host_that_only_a_resolver_rejects_is_one_error(ask: Ask) -> None:
    with pytest.raises(client.UnreachableError, match="no connection"):
        ask("http://[fe80::1%nowhere]:9", "models", options=ONCE | {"timeouts": Timeouts(connect_s=1)})
