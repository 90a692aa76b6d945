"""Connections to the service: its address, and the proxies in the environment."""

import os
import re
import ssl
from collections.abc import Mapping
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final
from urllib.request import getproxies, proxy_bypass

import httpx

from cifar10_serving import __version__
from cifar10_serving.client._errors import ConfigurationError

LAST_PORT: Final = 65535
SOCKS: Final = frozenset({"socks5", "socks5h"})
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
HOST_AND_PORT: Final = re.compile(r"(\[[^\]]+\]|[^:]+):(\d+)")
EXPECTED: Final = "a proxy such as http://proxy.example:3128"
MAX_CONNECTIONS: Final = 100
MAX_IDLE_CONNECTIONS: Final = 20
USER_AGENT: Final = f"cifar10-client/{__version__}"
CERTIFICATE_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
KEY_LOG_VARIABLE: Final = "SSLKEYLOGFILE"


def proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """Return the proxy for an address, or None; this machine is always contacted directly.

    Raises:
        ConfigurationError: the proxy can't be used.
    """
    if _is_loopback(url.host):
        return None
    found = getproxies()
    named = next(((name, found[name].strip()) for name in (url.scheme, "all") if found.get(name, "").strip()), None)
    if named is None or _is_excepted(url, found.get("no", "")) or proxy_bypass(url.host):
        return None
    return _proxy(*named, url.host)


def _is_loopback(host: str) -> bool:
    address = _address(host)
    if address is not None:
        return address.is_loopback
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def _is_excepted(url: httpx.URL, no_proxy: str) -> bool:
    """Match the entries of `no_proxy`: `*`, names with subdomains, addresses and ranges, each with an optional port."""
    port = url.port or DEFAULT_PORTS[url.scheme]
    hosts = {url.host.lower().rstrip("."), url.raw_host.decode("ascii", "replace").lower().rstrip(".")}
    address = _address(url.host)
    for entry in re.split(r"[\s,;]+", no_proxy.lower()):
        name = entry.rpartition("://")[2].rstrip("/") if "://" in entry else entry
        if with_port := HOST_AND_PORT.fullmatch(name):
            name = with_port[1]
            if int(with_port[2]) != port:
                continue
        if name == "*" or _holds_address(name.strip("[]"), address) or _holds_name(name, hosts):
            return True
    return False


def _holds_address(entry: str, address: IPv4Address | IPv6Address | None) -> bool:
    if address is None:
        return False
    try:
        return address in ip_network(entry, strict=False)
    except ValueError:
        return False


def _holds_name(entry: str, hosts: set[str]) -> bool:
    name = entry.lstrip("*").strip(".")
    return bool(name) and any(host == name or host.endswith(f".{name}") for host in hosts)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _proxy(name: str, text: str, host: str) -> httpx.Proxy:
    source = next((f"the variable {key}" for key in os.environ if key.lower() == f"{name}_proxy"), "the system")
    remedy = f"correct it, or exclude the service: NO_PROXY={host}"
    try:
        proxy = httpx.Proxy(text if "://" in text else f"http://{text}")
    except (ValueError, httpx.InvalidURL) as error:  # its text may contain the proxy's password
        raise ConfigurationError(f"{source} does not name a proxy", expected=EXPECTED, remedy=remedy) from error
    shown = f"{proxy.url.scheme}://{proxy.url.host}"
    if not proxy.url.host or not 0 < (proxy.url.port or 1) <= LAST_PORT:
        raise ConfigurationError(
            f"{source} names {shown}, which is not a proxy's address", expected=EXPECTED, remedy=remedy
        )
    if proxy.url.scheme in SOCKS and find_spec("socksio") is None:
        raise ConfigurationError(
            f"{source} names {shown}, and SOCKS needs the package socksio",
            remedy=f"pip install 'httpx[socks]', or exclude the service: NO_PROXY={host}",
        )
    return proxy


def connection_options(
    base_url: httpx.URL,
    *,
    token: str | None,
    headers: Mapping[str, str] | None,
    verify: ssl.SSLContext | bool,
    max_connections: int,
    own_transport: bool,
) -> dict[str, Any]:
    """Return headers, limits, proxy and certificates, as keyword arguments for httpx's clients.

    Args:
        own_transport: whether the caller's transport sends the requests; then network settings don't matter.

    Raises:
        ValueError: the token has characters that are not allowed in a header.
        ConfigurationError: the environment names a proxy or certificates that can't be used.
    """
    sent = {"User-Agent": USER_AGENT, "Accept": "application/json"} | dict(headers or {})
    if token is not None:
        if not is_token(token):
            raise ValueError("the token has characters that are not allowed in a header: expected printable ASCII")
        sent["Authorization"] = f"Bearer {token}"
    limits = httpx.Limits(max_connections=max_connections, max_keepalive_connections=MAX_IDLE_CONNECTIONS)
    options = {"base_url": base_url, "headers": sent, "limits": limits, "trust_env": False}
    if own_transport:
        return options
    return options | {"proxy": proxy_for(base_url), "verify": _certificates(base_url, verify)}


def is_token(text: str) -> bool:
    """Return whether this text is allowed in a header."""
    return text.isascii() and text.isprintable() and text.strip() == text != ""


def _certificates(base_url: httpx.URL, verify: ssl.SSLContext | bool) -> ssl.SSLContext | bool:
    """Return the certificates to check against; loading the authorities takes 30 ms, which plain HTTP doesn't need."""
    if verify is not True:
        return verify
    if base_url.scheme == "http":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx.create_ssl_context()  # with SSL_CERT_FILE and SSL_CERT_DIR
    except OSError as error:  # ssl.SSLError is one
        where = next((name for name in CERTIFICATE_VARIABLES if os.environ.get(name)), None)
        named = [f"{name}={os.environ[name]}" for name in (where, KEY_LOG_VARIABLE) if name and os.environ.get(name)]
        raise ConfigurationError(
            f"the certificates can't be read: {error.strerror or error}",
            expected="readable files" if named else "the package certifi with its certificates",
            remedy=f"correct or unset {', '.join(named)}" if named else "pip install --force-reinstall certifi",
        ) from error


def describe_request(method: str, base_url: httpx.URL, path: str, proxy: httpx.Proxy | None) -> str:
    """Return a description of a request, without the name and password in its address."""
    via = f" through the proxy {without_password(proxy.url)}" if proxy is not None else ""
    return f"{method} {without_password(base_url)}{path}{via}"


def without_password(url: httpx.URL) -> str:
    """Return an address without its password."""
    return str(url.copy_with(username=None, password=None)).rstrip("/")
