"""What both clients tell httpx, and how they name a request."""

import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.request import getproxies

import httpx

from catalog import PROJECT_VERSION

MAX_CONNECTIONS: Final = 100
MAX_IDLE_CONNECTIONS: Final = 20
USER_AGENT: Final = f"cifar10-client/{PROJECT_VERSION}"


def connection_options(token: str | None, headers: Mapping[str, str] | None, max_connections: int) -> dict[str, Any]:
    """Headers and limits, as keyword arguments of httpx's clients.

    Raises:
        ValueError: the token holds what no header may.
    """
    sent = {"User-Agent": USER_AGENT, "Accept": "application/json"} | dict(headers or {})
    if token is not None:
        if not is_token(token):
            raise ValueError("the token holds characters that no header may: expected printable ASCII")
        sent["Authorization"] = f"Bearer {token}"
    limits = httpx.Limits(max_connections=max_connections, max_keepalive_connections=MAX_IDLE_CONNECTIONS)
    return {"headers": sent, "limits": limits}


def is_token(text: str) -> bool:
    """Whether a header may hold it."""
    return text.isascii() and text.isprintable() and text.strip() == text != ""


def certificates(base_url: httpx.URL, verify: ssl.SSLContext | bool) -> ssl.SSLContext | bool:
    """Against what certificates are checked; reading all authorities takes 30 ms, which plain HTTP can do without."""
    if verify is True and base_url.scheme == "http" and not getproxies():
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return verify


def describe_request(method: str, base_url: httpx.URL, path: str) -> str:
    """A request in words, without the name and the password that an address may hold."""
    shown = str(base_url.copy_with(username=None, password=None)).rstrip("/")
    return f"{method} {shown}{path}"
