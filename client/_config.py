"""How long a call may take, when it is tried again, and where it goes: value objects, checked when they are made."""

import random
from dataclasses import dataclass
from typing import Final

import httpx

from client._errors import AddressError

__all__ = ["DEFAULT_URL", "Retries", "Timeouts"]

LAST_PORT: Final = 65535
DEFAULT_URL: Final = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a call may take, in seconds.

    Args:
        connect_s: for a connection to be made.
        read_s: between two parts of the answer, or of the request while it is sent. The service's own deadline is
            10 s, so that with a longer time it is the service that says what is slow.
        total_s: for the whole call, with all its retries and the waits between them; None for as long as it takes.

    Raises:
        ValueError: one is not above 0.
    """

    connect_s: float = 5.0
    read_s: float = 15.0
    total_s: float | None = 60.0

    def __post_init__(self) -> None:
        for name, value in (("connect_s", self.connect_s), ("read_s", self.read_s), ("total_s", self.total_s)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} = {value}: expected seconds above 0")


@dataclass(frozen=True, slots=True)
class Retries:
    """When a call is tried again: after 503 (or a proxy's 429 or 502), and where the connection failed or broke.

    Every call can be repeated without harm, since the service keeps nothing of it. A time-out is not tried again:
    what is slow would get one more request to answer.

    Args:
        attempts: at most so many, the first one counted; 1 for no retries.
        first_wait_s: the greatest wait after the first attempt; each further one is twice as long. The wait itself
            is drawn between 0 and that, so that many clients don't come back at once; `Retry-After` is added to it.
        longest_wait_s: the greatest wait, `Retry-After` apart.

    Raises:
        ValueError: a value is out of range.
    """

    attempts: int = 4
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts = {self.attempts}: expected 1 (no retries) or more")
        for name, value in (("first_wait_s", self.first_wait_s), ("longest_wait_s", self.longest_wait_s)):
            if not value >= 0:
                raise ValueError(f"{name} = {value}: expected 0 or more seconds")

    def wait_s(self, attempts_made: int, retry_after_s: float | None = None) -> float:
        """How long to wait after so many attempts."""
        longest_s = min(self.longest_wait_s, self.first_wait_s * 2 ** min(attempts_made - 1, 32))
        return (retry_after_s or 0) + random.uniform(0, longest_s)  # noqa: S311  # spreads clients, hides nothing


NO_RETRIES: Final = Retries(attempts=1)


def parse_base_url(text: str) -> httpx.URL:
    """The service's address; `localhost:8000` is http.

    Raises:
        AddressError: it is none.
    """
    expected = f"an address such as {DEFAULT_URL}"
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
    except (httpx.InvalidURL, UnicodeError) as error:
        raise AddressError(f"{text!r} is no address: {error}", expected=expected) from error
    if url.scheme not in {"http", "https"} or not url.host or any(map(str.isspace, text)):
        raise AddressError(f"{text!r} is no address of an HTTP server", expected=expected)
    if url.port is not None and not 0 < url.port <= LAST_PORT:
        raise AddressError(f"{text!r}: there is no port {url.port}", expected=expected)
    if url.query or url.fragment:
        raise AddressError(f"{text!r} has a query or a fragment", expected=expected)
    return url
