"""What both clients tell httpx, and how they name a request."""

import os
import ssl
from collections.abc import Mapping
from typing import Any, Final

import httpx

from catalog import PROJECT_VERSION
from client._errors import ConfigurationError
from client._proxies import proxy_for

MAX_CONNECTIONS: Final = 100
MAX_IDLE_CONNECTIONS: Final = 20
USER_AGENT: Final = f"cifar10-client/{PROJECT_VERSION}"
CERTIFICATE_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
KEY_LOG_VARIABLE: Final = "SSLKEYLOGFILE"


def connection_options(
    base_url: httpx.URL,
    *,
    token: str | None,
    headers: Mapping[str, str] | None,
    verify: ssl.SSLContext | bool,
    max_connections: int,
    own_transport: bool,
) -> dict[str, Any]:
    """Headers, limits, proxy and certificates, as keyword arguments of httpx's clients.

    Args:
        own_transport: the caller sends the requests; the network's settings don't matter.

    Raises:
        ValueError: the token holds what no header may.
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
    """Whether a header may hold it."""
    return text.isascii() and text.isprintable() and text.strip() == text != ""


def _certificates(base_url: httpx.URL, verify: ssl.SSLContext | bool) -> ssl.SSLContext | bool:
    """Against what certificates are checked; reading all authorities takes 30 ms, which plain HTTP can do without."""
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
    """A request in words, without the name and the password that an address may hold."""
    via = f" through the proxy {without_password(proxy.url)}" if proxy is not None else ""
    return f"{method} {without_password(base_url)}{path}{via}"


def without_password(url: httpx.URL) -> str:
    """An address as it may be shown."""
    return str(url.copy_with(username=None, password=None)).rstrip("/")
