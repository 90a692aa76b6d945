"""Load shedding before parsing: recognize the heads of prediction requests, and reject them with a prerendered answer.

Under overload most requests are rejected, so a rejection must be cheap. The answer is rendered once for many requests
and sent as soon as a head is seen. If that is not safe (no plain Content-Length, a client that waits for "100
Continue", a very large body), the request takes the standard path and is rejected there.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from service.http.answers import Answer
from service.http.errors import problem_answer, problem_of
from service.http.head import HEAD_END, MAX_HEADERS
from service.inference.admission import Rejection

PLAIN_PATHS: Final = (b"/v1/", b"/v2/")
WELL_FORMED_HEAD: Final = re.compile(
    rb"POST [\x21-\x7e]++ HTTP/1\.[01]"
    rb"(?:\r\n(?![Hh][Oo][Ss][Tt]:)[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t\x20-\x7e\x80-\xff]*+)*+"
    rb"\r\n[Hh][Oo][Ss][Tt]:[ \t]*+[A-Za-z0-9.-]*+(?::[0-9]{0,5}+)?+[ \t]*+"
    rb"(?:\r\n(?![Hh][Oo][Ss][Tt]:)[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t\x20-\x7e\x80-\xff]*+)*+"
)
"""A head with one plain Host; all others are left to the parser."""
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,10})[ \t]*(?:\r\n(?![ \t])|\Z)")
UNUSUAL: Final = (b"transfer-encoding", b"expect", b"upgrade")
CLOSE: Final = re.compile(rb" http/1\.0(?:\r\n|\Z)|\r\nconnection:(?![ \t]*keep-alive[ \t]*(?:\r\n|\Z))")
MAX_SKIPPED_BYTES: Final = 2**20
MAX_EARLY_HEAD_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Head:
    """The facts about a rejected request that decide its answer.

    `closes`: the connection is closed after the answer; `plain`: errors have the form `{"error": "…"}`.
    """

    target: bytes
    body_bytes: int
    closes: bool
    plain: bool

    @property
    def form(self) -> tuple[bool, bool]:
        """The key by which answers are shared."""
        return self.plain, self.closes


@lru_cache(maxsize=1024)
def read_head(head: bytes, root_path: bytes = b"") -> Head | None:
    """Parse the bytes of a head; return None if only the full parser can decide.

    Args:
        root_path: the prefix that a proxy may have left in front of the path.
    """
    if WELL_FORMED_HEAD.fullmatch(head) is None or head.count(b"\r\n") > MAX_HEADERS:
        return None
    low = head.lower()
    length = CONTENT_LENGTH.search(low)
    if length is None or low.count(b"content-length") != 1 or any(name in low for name in UNUSUAL):
        return None
    target = head.split(b" ", 2)[1]
    return Head(
        target=target,
        body_bytes=int(length[1]),
        closes=CLOSE.search(low) is not None,
        plain=target.removeprefix(root_path).startswith(PLAIN_PATHS),
    )


def rejectable(data: bytes, root_path: bytes) -> tuple[Head, int] | None:
    """Return the head of a request that may be rejected unparsed, and the number of body bytes still to come.

    Args:
        data: the bytes received on a connection without other requests.
        root_path: as for `read_head`.
    """
    end = data.find(HEAD_END)
    head = read_head(data[:end], root_path) if 0 < end <= MAX_EARLY_HEAD_BYTES else None
    if head is None:
        return None
    missing = head.body_bytes - (len(data) - end - len(HEAD_END))
    if missing < 0 or missing > MAX_SKIPPED_BYTES or (missing and head.closes):
        return None
    return head, missing


def rejection_answer(rejection: Rejection, *, plain: bool) -> Answer:
    """Return the answer to all requests that are rejected for the same reason."""
    retry = (b"retry-after", b"%d" % rejection.error.retry_after_s)
    return problem_answer(problem_of(rejection.error), "/v2" if plain else "/predict", [retry])
