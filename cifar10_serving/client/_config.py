"""Time-outs, retries and the address of a client: value objects, validated on construction."""

import random
import re
from dataclasses import dataclass
from typing import Final

import httpx

from cifar10_serving.client._errors import AddressError

__all__ = ["DEFAULT_URL", "Retries", "Timeouts"]

LAST_PORT: Final = 65535
MAX_HOST: Final = 253
LABEL: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")
ZONE: Final = re.compile(r"(\[[^\]%]+)%25([^\]]+)(?=\])")
MAX_SECONDS: Final = 10**7
"""A hundred days. Sockets and threads allow a few centuries at most, and raise OverflowError beyond."""
MAX_LOST_ATTEMPTS: Final = 4
"""Limit of attempts for a call whose connection breaks each time, and for an unknown host."""
DEFAULT_URL: Final = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The time-outs of a call, in seconds.

    Args:
        connect_s: time to establish a connection.
        read_s: time between two parts of the answer, or of the request while it is sent. The service's own deadline is
            10 s, so with a longer time the service reports that it is slow.
        total_s: time for the whole call, including retries and waits; None for no limit.

    Raises:
        ValueError: a value is not above 0, or above a hundred days.
    """

    connect_s: float = 5.0
    read_s: float = 15.0
    total_s: float | None = 60.0

    def __post_init__(self) -> None:
        for name, value in (("connect_s", self.connect_s), ("read_s", self.read_s), ("total_s", self.total_s)):
            if value is not None and not 0 < value <= MAX_SECONDS:
                raise ValueError(f"{name} = {value}: expected seconds above 0, at most {MAX_SECONDS:,}")


@dataclass(frozen=True, slots=True)
class Retries:
    """The policy for retries, which follow a 503, a proxy's 429 or 502, and a failed or broken connection.

    Every call can be repeated safely, because the service stores nothing about it. So the client waits for a service
    that restarts, until the call's total time-out. It does not retry after a read time-out: a slow service would only
    get more work. Unless `attempts` is set, a call whose connection breaks repeatedly is abandoned after
    `MAX_LOST_ATTEMPTS` attempts, since the request itself may be the reason.

    Args:
        attempts: maximum number of attempts, including the first; 1 for no retries, None for as many as the total
            time-out allows.
        first_wait_s: maximum wait after the first attempt; it doubles with each further one. The actual wait is drawn
            between 0 and the maximum, so that clients don't return all at once; `Retry-After` is added.
        longest_wait_s: maximum wait, without `Retry-After`.
        attempts_before_contact: maximum number of attempts while this client has never had an answer, so that a wrong
            address is reported soon. None for no limit if the connection is refused, and for `MAX_LOST_ATTEMPTS` if the
            host is unknown or unreachable.

    Raises:
        ValueError: a value is out of range.
    """

    attempts: int | None = None
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0
    attempts_before_contact: int | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("attempts", self.attempts),
            ("attempts_before_contact", self.attempts_before_contact),
        ):
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value}: expected 1 (no retries) or more, or None")
        for name, wait_s in (("first_wait_s", self.first_wait_s), ("longest_wait_s", self.longest_wait_s)):
            if not 0 <= wait_s <= MAX_SECONDS:
                raise ValueError(f"{name} = {wait_s}: expected 0 to {MAX_SECONDS:,} seconds")

    def wait_s(self, attempts_made: int, retry_after_s: float | None = None) -> float:
        """Return the time to wait after this number of attempts."""
        longest_s = min(self.longest_wait_s, self.first_wait_s * 2 ** min(attempts_made - 1, 32))
        return (retry_after_s or 0) + random.uniform(0, longest_s)  # noqa: S311  # spreads clients, hides nothing


NO_RETRIES: Final = Retries(attempts=1)


def parse_base_url(text: str) -> httpx.URL:
    """Parse the service's address; `localhost:8000` means http.

    Raises:
        AddressError: it is not valid.
    """
    expected = f"an address such as {DEFAULT_URL}"
    text = text.strip()
    # In a URL, the % of a zone such as [fe80::1%25eth0] is escaped; the system takes it unescaped.
    readable = ZONE.sub(r"\1%\2", text if "://" in text else f"http://{text}")
    try:
        url = httpx.URL(readable)
    except (httpx.InvalidURL, UnicodeError) as error:
        why = "" if "@" in text else f": {error}"  # its text may contain the password
        raise AddressError(f"{_shown(text)} is not an address{why}", expected=expected) from error
    if url.scheme not in {"http", "https"} or any(map(str.isspace, text)) or not _is_host(url):
        raise AddressError(f"{_shown(text)} is not the address of an HTTP server", expected=expected)
    if url.port is not None and not 0 < url.port <= LAST_PORT:
        raise AddressError(f"{_shown(text)}: there is no port {url.port}", expected=expected)
    if url.query or url.fragment:
        raise AddressError(f"{_shown(text)} has a query or a fragment", expected=expected)
    return url


def _is_host(url: httpx.URL) -> bool:
    """Return whether this is a host, not a mistake that only a resolver notices: `http://http://x`, empty labels."""
    if ":" in url.host:
        return True  # an IPv6 address, which httpx has checked
    labels = url.raw_host.decode("ascii", "replace").removesuffix(".").split(".")
    return url.host not in {"http", "https"} and len(url.raw_host) <= MAX_HOST and all(map(LABEL.fullmatch, labels))


def _shown(text: str) -> str:
    return repr(f"…@{text.rpartition('@')[2]}" if "@" in text else text)
