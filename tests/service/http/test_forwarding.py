"""Headers from trusted proxies are used; the same headers from other clients are not."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Scope

from service.errors import SettingsError
from service.http.forwarding import Forwarding, must_be_stripped, parse_networks, route_path

PROXY = "127.0.0.1"
TRUSTED = parse_networks("127.0.0.1, 10.0.0.0/8 fd00::/8")


def resolved(
    headers: dict[str, str] | list[tuple[str, str]], *, client: str = PROXY, path: str = "/docs", root_path: str = ""
) -> Scope:
    pairs = headers.items() if isinstance(headers, dict) else headers
    scope: dict[str, Any] = {
        "type": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "client": (client, 4711),
        "scheme": "http",
        "headers": [(b"host", b"inside:8000"), *((name.lower().encode(), value.encode()) for name, value in pairs)],
    }
    Forwarding(root_path, TRUSTED).resolve(scope)
    return scope


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({"X-Forwarded-For": "203.0.113.9"}, "203.0.113.9"),
        ({"X-Forwarded-For": "6.6.6.6, 203.0.113.9, 10.1.2.3"}, "203.0.113.9"),
        ([("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "203.0.113.9")], "203.0.113.9"),
        ({"X-Forwarded-For": "10.0.0.1, 10.0.0.2"}, "10.0.0.1"),
        ({"X-Forwarded-For": "203.0.113.9:51234"}, "203.0.113.9"),
        ({"X-Forwarded-For": "2001:db8::7"}, "2001:db8::7"),
        ({"X-Forwarded-For": "[2001:DB8::7]:443"}, "2001:db8::7"),
        ({"X-Forwarded-For": "::ffff:203.0.113.9"}, "203.0.113.9"),
        ({"X-Forwarded-For": "6.6.6.6, <script>, 10.1.2.3"}, "10.1.2.3"),
        ({"X-Forwarded-For": "6.6.6.6, unknown"}, "unknown"),
        ({"X-Forwarded-For": ""}, PROXY),
        ({"X-Forwarded-For": "9" * 100_000}, PROXY),
        ({"Forwarded": "for=203.0.113.9"}, "203.0.113.9"),
        ({"Forwarded": 'For="[2001:db8::7]:4711";Proto=https'}, "2001:db8::7"),
        ({"Forwarded": "for=6.6.6.6, for=203.0.113.9;by=10.0.0.1, for=10.9.9.9"}, "203.0.113.9"),
        ({"Forwarded": "for=6.6.6.6, for=_hidden"}, "_hidden"),
        ({"Forwarded": 'for=6.6.6.6;;"broken, for=203.0.113.9'}, "203.0.113.9"),
        ({"Forwarded": "for=6.6.6.6", "X-Forwarded-For": "203.0.113.9"}, "203.0.113.9"),
        ({"Forwarded": "for=6.6.6.6", "X-Forwarded-Prefix": "/cifar"}, PROXY),
        ({}, PROXY),
    ],
)
def test_client_is_the_last_one_that_is_no_trusted_proxy(headers: Any, address: str) -> None:
    assert resolved(headers)["client"][0] == address


@pytest.mark.parametrize("client", ["203.0.113.1", "::1", "not an address"])
def test_nobody_else_is_believed(client: str) -> None:
    headers = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "Forwarded": "for=6.6.6.6;proto=https;host=evil.example",
    }
    scope = resolved(headers, client=client)
    assert (scope["client"], scope["scheme"]) == ((client, 4711), "http")
    assert (scope["root_path"], scope["path"]) == ("", "/docs")
    assert dict(scope["headers"])[b"host"] == b"inside:8000"


def test_proxy_over_an_ipv6_socket_is_the_same_proxy() -> None:
    assert resolved({"X-Forwarded-For": "203.0.113.9"}, client="::ffff:127.0.0.1")["client"][0] == "203.0.113.9"
    assert resolved({}, client="::ffff:203.0.113.1")["client"][0] == "203.0.113.1"


@pytest.mark.parametrize(
    ("headers", "scheme", "host"),
    [
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "a.example:8443"}, "https", b"a.example:8443"),
        ({"X-Forwarded-Proto": "HTTPS"}, "https", b"inside:8000"),
        ({"X-Forwarded-Proto": "javascript", "X-Forwarded-Host": "a/b<>"}, "http", b"inside:8000"),
        (
            {"X-Forwarded-For": "6.6.6.6, 203.0.113.9", "X-Forwarded-Proto": "http, https", "X-Forwarded-Host": "x, y"},
            "https",
            b"y",
        ),
        ({"Forwarded": "for=6.6.6.6;host=x, for=203.0.113.9;proto=https;host=a.example"}, "https", b"a.example"),
    ],
)
def test_scheme_and_host_are_those_of_the_same_hop(headers: dict[str, str], scheme: str, host: bytes) -> None:
    scope = resolved(headers)
    assert (scope["scheme"], dict(scope["headers"])[b"host"]) == (scheme, host)


@pytest.mark.parametrize(
    ("root_path", "headers", "path", "prefix", "route"),
    [
        ("/cifar", {}, "/cifar/docs", "/cifar", "/docs"),
        ("/cifar/", {}, "/docs", "/cifar", "/docs"),
        ("/cifar", {}, "/cifar", "/cifar", ""),
        ("/cifar", {}, "/cifarx", "/cifar", "/cifarx"),
        ("/a/b", {}, "/a/b/v2", "/a/b", "/v2"),
        ("", {"X-Forwarded-Prefix": "/cifar"}, "/docs", "/cifar", "/docs"),
        ("", {"X-Forwarded-Prefix": "/cifar/"}, "/cifar/docs", "/cifar", "/docs"),
        ("/other", {"X-Forwarded-Prefix": "/cifar"}, "/docs", "/cifar", "/docs"),
        ("", {"X-Forwarded-Prefix": "/a, /b"}, "/docs", "/a/b", "/docs"),
        ("/models", {}, "/models/sequential", "/models", "/models/sequential"),
        ("/cifar", {"X-Forwarded-Prefix": "//evil.example"}, "/docs", "/cifar", "/docs"),
        ("", {"X-Forwarded-Prefix": "/'-alert(1)-'"}, "/docs", "", "/docs"),
        ("", {"X-Forwarded-Prefix": "/.."}, "/docs", "", "/docs"),
        ("", {"X-Forwarded-Prefix": "/" + "a" * 5000}, "/docs", "", "/docs"),
        ("", {"X-Forwarded-Prefix": "/"}, "/docs", "", "/docs"),
    ],
)
def test_prefix_is_taken_off_whether_the_proxy_strips_it_or_not(
    root_path: str, headers: dict[str, str], path: str, prefix: str, route: str
) -> None:
    scope = resolved(headers, path=path, root_path=root_path)
    assert (scope["root_path"], route_path(scope)) == (prefix, route)
    assert scope["path"] == prefix + route
    assert scope["raw_path"].decode() == scope["path"]
    before = dict(scope)
    Forwarding(root_path, TRUSTED).resolve(scope)
    assert scope == before


def test_raw_path_may_be_left_out() -> None:
    scope: Scope = {"type": "http", "path": "/", "root_path": "", "client": (PROXY, 1), "scheme": "http", "headers": []}
    Forwarding("/cifar", TRUSTED).resolve(scope)
    assert (scope["path"], scope["root_path"], route_path(scope)) == ("/cifar/", "/cifar", "/")
    assert "raw_path" not in scope


def test_prefix_like_a_path_of_the_service_has_to_be_stripped() -> None:
    assert must_be_stripped("/v1/x")
    assert not must_be_stripped("/v3")
    assert not must_be_stripped("")


@pytest.mark.parametrize("prefix", ["cifar", "//x", "/a b", "/a/../b", "/a'", "/x\n"])
def test_prefix_that_is_not_legal_is_rejected(prefix: str) -> None:
    with pytest.raises(SettingsError):
        Forwarding(prefix)


@given(
    st.dictionaries(
        st.sampled_from(
            ["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Prefix"]
        ),
        st.text("1.:,;=\"[]\\ /abfor_-<>'\t", max_size=40),
    ),
    st.sampled_from(["/", "/docs", "/a", "/a/docs", "*"]),
)
def test_no_header_breaks_a_request(headers: dict[str, str], path: str) -> None:
    scope = resolved(headers, path=path, root_path="/a")
    address, port = scope["client"]
    assert address
    assert not set(address) & set(" <>'\"/\\,;")
    assert 0 <= port < 100_000
    assert scope["path"].startswith(scope["root_path"]) or path == "*"
    assert re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", scope["root_path"])
