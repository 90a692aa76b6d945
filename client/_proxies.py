"""Finds the proxy that the environment names for the service's address, by the variables that curl and Go read too.

httpx reads them too, but builds a connection pool for each proxy that it finds, also for those that never apply: with a
SOCKS proxy and no socksio, or an IPv6 range in `no_proxy`, its clients can't be made, not even for 127.0.0.1. A client
has one address, so one decision is enough. `urllib` finds the variables and the system's settings, but knows no ranges
of addresses.
"""

import os
import re
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.request import getproxies, proxy_bypass

import httpx

from client._errors import ConfigurationError

LAST_PORT: Final = 65535
SOCKS: Final = frozenset({"socks5", "socks5h"})
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
HOST_AND_PORT: Final = re.compile(r"(\[[^\]]+\]|[^:]+):(\d+)")
EXPECTED: Final = "a proxy such as http://proxy.example:3128"


def proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """Return the proxy for an address; None where it is asked directly, as this machine itself always is.

    Raises:
        ConfigurationError: there is one for it, which can't be used.
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
    """Match the entries of `no_proxy`: `*`, names with subdomains, addresses, ranges; each perhaps with a port."""
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
    except (ValueError, httpx.InvalidURL) as error:  # whose words may show the proxy's password
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
