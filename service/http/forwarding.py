"""Requests through a proxy: the path prefix of the service, and the headers of trusted proxies.

After `Forwarding.resolve` a scope follows ASGI: `path` starts with `root_path`, `client` is the address that the
request came from, and `scheme` and the header `Host` are the original ones. uvicorn's own middleware supports neither
prefixes nor hosts nor RFC 7239's `Forwarded`, and doesn't see requests on the fast path.
"""

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from starlette.types import Scope

from service.errors import SettingsError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

RESOLVED: Final = "cifar10.forwarding"
ROOT_PATH_PATTERN: Final = r"^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?$"
"""Path segments that don't start with a dot and need no escaping in addresses and HTML."""
MAX_PREFIX_CHARACTERS: Final = 256
MAX_KEPT_BYTES: Final = 512
"""Limit for caching; longer headers are parsed each time."""
OWN_PATHS: Final = frozenset(
    {
        *("predict", "compare", "explain", "models", "v1", "v2", "admin", "web", "docs", "openapi.json"),
        *("livez", "readyz", "metrics", "stats", "static-offline-docs"),
    }
)
"""The first segments of the service's paths. A proxy has to strip a prefix that starts with one of them: below a prefix
`/models`, nothing could distinguish `/models/x` from the service's own path."""
NAMES: Final = {
    name.encode(): name
    for name in ("forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix")
}
SCHEMES: Final = frozenset({"http", "https"})
HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
OBFUSCATED: Final = re.compile(r"unknown|_[A-Za-z0-9._-]{1,63}")
PAIR: Final = re.compile(r'\s*([A-Za-z0-9!#$%&\'*+.^_`|~-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]*)\s*(;|,|$)')
"""One `name=value` of RFC 7239, and the separator after it."""


class Hop(NamedTuple):
    """The facts that one proxy reports about a request; missing ones are empty."""

    client: str = ""
    scheme: str = ""
    host: str = ""


class Forwarding:
    """Corrects scopes. `is_off` is True without a prefix and without proxies: then there is nothing to correct.

    Args:
        root_path: the path prefix of the service, unless a trusted proxy names another; may be empty.
        trusted: the proxies whose headers are trusted.
    """

    def __init__(self, root_path: str = "", trusted: tuple[Network, ...] = ()) -> None:
        self.root_path = normalize_prefix(root_path)
        self._trusted = trusted
        self.is_off = not self.root_path and not trusted
        self._is_trusted = lru_cache(maxsize=1024)(self._find_trust)
        self._read_kept = lru_cache(maxsize=1024)(self._read)

    def resolve(self, scope: Scope) -> str:
        """Correct a request's scope and return the path of its route; a second call changes nothing."""
        if not self.is_off and RESOLVED not in scope:
            self._resolve(scope)
        path: str = route_path(scope) if scope.get("root_path") else scope["path"]
        return path

    def _resolve(self, scope: Scope) -> None:
        scope[RESOLVED] = True
        prefix = self.root_path
        client = scope.get("client")
        if client is not None:
            address, port = client
            if self._is_trusted(address):
                prefix = self._follow(scope) or prefix
            else:
                scope["client"] = plain_address(address), port
        _set_prefix(scope, prefix)

    def _find_trust(self, text: str) -> bool:
        address = _parsed(text)
        return address is not None and any(address in network for network in self._trusted)

    def _follow(self, scope: Scope) -> str:
        """Apply a trusted proxy's headers; return the prefix that it names, or an empty string."""
        headers = tuple([header for header in scope["headers"] if header[0] in NAMES])
        is_short = sum(len(value) for _, value in headers) <= MAX_KEPT_BYTES
        hop, client, prefix = (self._read_kept if is_short else self._read)(headers)
        address, port = scope["client"]
        scope["client"] = client or (plain_address(address), port)
        if hop.scheme:
            scope["scheme"] = hop.scheme
        if hop.host:
            others = [header for header in scope["headers"] if header[0] != b"host"]
            scope["headers"] = [(b"host", hop.host.encode()), *others]
        return prefix

    def _read(self, headers: tuple[tuple[bytes, bytes], ...]) -> tuple[Hop, tuple[str, int] | None, str]:
        """Return the relevant hop, its client's address and port, and the prefix; leave out invalid values."""
        given: dict[str, list[str]] = {}
        for name, value in headers:
            given.setdefault(NAMES[name], []).append(value.decode("latin-1"))
        prefix = "".join(part.rstrip("/") for part in _listed(given.get("x-forwarded-prefix")))
        hop = self._first_outside(_hops(given))
        scheme = hop.scheme.lower()
        legal = Hop(hop.client, scheme if scheme in SCHEMES else "", hop.host if HOST.fullmatch(hop.host) else "")
        return legal, _client(hop.client), prefix if is_prefix(prefix) else ""

    def _first_outside(self, hops: list[Hop]) -> Hop:
        """Return the nearest hop whose client is not a trusted proxy; if there is none, the farthest.

        The client of that hop may have forged all entries before it.
        """
        chosen = Hop()
        for hop in reversed(hops):
            if hop.client and _client(hop.client) is None:
                break  # not an address: nothing before it can be trusted
            chosen = hop
            client = _client(hop.client)
            if client is None or not self._is_trusted(client[0]):
                break
        return chosen


def route_path(scope: Scope) -> str:
    """Return the path of a request without the service's prefix."""
    path: str = scope["path"]
    root_path = scope.get("root_path")
    return path.removeprefix(root_path) if root_path else path


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse a list of addresses and CIDR ranges, separated by commas or blanks.

    Raises:
        ValueError: an entry is neither.
    """
    return tuple(ipaddress.ip_network(entry) for entry in re.split(r"[\s,]+", text) if entry)


def is_prefix(text: str) -> bool:
    """Return whether a path prefix is valid; the empty one is."""
    return len(text) <= MAX_PREFIX_CHARACTERS and re.fullmatch(ROOT_PATH_PATTERN, text) is not None


def normalize_prefix(text: str) -> str:
    """Return a valid prefix without its trailing slash.

    Raises:
        SettingsError: it is not valid.
    """
    if not is_prefix(text):
        raise SettingsError(f"root_path = {text[:100]!r}", expected="a path such as /cifar10")
    return text.rstrip("/")


def must_be_stripped(prefix: str) -> bool:
    """Return whether a prefix starts like one of the service's paths, so that a proxy has to strip it."""
    return prefix.removeprefix("/").partition("/")[0] in OWN_PATHS


def plain_address(text: str) -> str:
    """Return an address in its usual form: an IPv4 address from an IPv6 socket as IPv4."""
    if not text.startswith("::ffff:"):
        return text
    address = _parsed(text)
    return text if address is None else str(address)


def _set_prefix(scope: Scope, prefix: str) -> None:
    path = scope["path"]
    if not prefix or not path.startswith("/"):
        return
    scope["root_path"] = prefix
    is_stripped = path != prefix and not path.startswith(f"{prefix}/")
    if is_stripped or must_be_stripped(prefix):
        scope["path"] = prefix + path
        raw_path = scope.get("raw_path")  # optional in ASGI; missing if the request can't be parsed
        if raw_path is not None:
            scope["raw_path"] = prefix.encode() + raw_path


def _hops(given: Mapping[str, list[str]]) -> list[Hop]:
    """Return the reports of the proxies, the farthest first.

    Proxies that write `X-Forwarded-*` pass on a client's own `Forwarded`, so it counts only if there are no such
    headers.
    """
    if given.keys() - {"forwarded"}:
        clients = _listed(given.get("x-forwarded-for"))
        rows = max(1, len(clients))
        schemes = _aligned(_listed(given.get("x-forwarded-proto")), rows)
        hosts = _aligned(_listed(given.get("x-forwarded-host")), rows)
        return [Hop(*row) for row in zip(clients or [""], schemes, hosts, strict=True)]
    return _forwarded(", ".join(given.get("forwarded", ())))


def _listed(values: list[str] | None) -> list[str]:
    return [entry.strip() for value in values or () for entry in value.split(",")]


def _aligned(entries: list[str], rows: int) -> list[str]:
    """Return one entry per row; if the numbers differ, use the nearest proxy's entry, the last one, for all rows."""
    if len(entries) == rows:
        return entries
    return [entries[-1] if entries else ""] * rows


def _forwarded(text: str) -> list[Hop]:
    """Parse RFC 7239's header. After a syntax error, keep only what follows it, which the nearest proxies wrote."""
    hops: list[Hop] = []
    pairs: dict[str, str] = {}
    position = 0
    while position < len(text):
        found = PAIR.match(text, position)
        if found is None:
            hops, pairs = [], {}
            position = text.find(",", position) + 1 or len(text)
            continue
        name, value, end = found.groups()
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        pairs[name.lower()] = value
        position = found.end()
        if end != ";":
            hops.append(Hop(pairs.get("for", ""), pairs.get("proto", ""), pairs.get("host", "")))
            pairs = {}
    return hops


def _client(text: str) -> tuple[str, int] | None:
    """Parse an address and its port (0 if missing), or a hidden name of RFC 7239; return None if it is neither."""
    if OBFUSCATED.fullmatch(text):
        return text, 0
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, port = text.split(":")
    address = _parsed(host)
    if address is None:
        return None
    return str(address), int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0  # noqa: PLR2004


def _parsed(text: str) -> Address | None:
    if len(text) > 64:  # noqa: PLR2004
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
