"""Load shedding before parsing: heads of requests for predictions, and the answers that reject them.

Under overload most requests are rejected, so it must cost next to nothing: the answer to one that is rejected is made
once for many, and sent when its head is seen. Where that is not safe (no plain Content-Length, a client that waits for
"100 Continue", a very large body), the request takes the standard path, on which it is rejected, too.
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
"""Head with one plain Host; any other is left to the parser."""
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,10})[ \t]*(?:\r\n(?![ \t])|\Z)")
UNUSUAL: Final = (b"transfer-encoding", b"expect", b"upgrade")
CLOSE: Final = re.compile(rb" http/1\.0(?:\r\n|\Z)|\r\nconnection:(?![ \t]*keep-alive[ \t]*(?:\r\n|\Z))")
MAX_SKIPPED_BYTES: Final = 2**20
MAX_EARLY_HEAD_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Head:
    """Properties of a rejected request that decide its answer.

    `closes`: its connection is closed after the answer; `plain`: its errors are `{"error": "…"}`.
    """

    target: bytes
    body_bytes: int
    closes: bool
    plain: bool

    @property
    def form(self) -> tuple[bool, bool]:
        """Requests of the same form get the same answer."""
        return self.plain, self.closes


@lru_cache(maxsize=1024)
def read_head(head: bytes, root_path: bytes = b"") -> Head | None:
    """Parse the bytes of a head; None if only the full parser can decide on it.

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
    """Return the head of a request that may be rejected unparsed, and how many bytes of its body are still to come.

    Args:
        data: received on a connection on which nothing else is asked.
        root_path: as in `read_head`.
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
    """Return the answer to requests that are rejected for one reason."""
    retry = (b"retry-after", b"%d" % rejection.error.retry_after_s)
    return problem_answer(problem_of(rejection.error), "/v2" if plain else "/predict", [retry])
