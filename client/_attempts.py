"""The attempts of one call: how long the next one may take, and whether there is a next one."""

import time
from typing import Final

import httpx

from client._config import Retries, Timeouts
from client._errors import (
    AnswerTimeoutError,
    ClientError,
    ConnectionLostError,
    GatewayError,
    UnavailableError,
    UnreachableError,
)

RETRIED: Final = (UnavailableError, GatewayError, UnreachableError, ConnectionLostError)
GATEWAY_TIMEOUT: Final = 504


class Attempts:
    """One call's attempts, from the moment that this is made.

    Args:
        request: what is asked, in words.
    """

    def __init__(self, request: str, timeouts: Timeouts, retries: Retries) -> None:
        self.request = request
        self._timeouts = timeouts
        self._retries = retries
        self.ends_s = None if timeouts.total_s is None else time.monotonic() + timeouts.total_s
        """When the total time-out passes, on the monotonic clock; None where there is none."""
        self._made = 0

    def left_s(self) -> float | None:
        """What is left of the total time-out; None where there is none.

        Raises:
            AnswerTimeoutError: it has passed.
        """
        if self.ends_s is None:
            return None
        left_s = self.ends_s - time.monotonic()
        if left_s <= 0:
            raise self.out_of_time()
        return left_s

    def timeout(self) -> httpx.Timeout:
        """The time-outs of an attempt that begins now, none longer than what is left.

        Raises:
            AnswerTimeoutError: nothing is left.
        """
        left_s = self.left_s()
        connect_s, read_s = self._timeouts.connect_s, self._timeouts.read_s
        if left_s is not None:
            connect_s, read_s = min(connect_s, left_s), min(read_s, left_s)
        return httpx.Timeout(connect=connect_s, read=read_s, write=read_s, pool=left_s)

    def wait_s(self, error: ClientError) -> float:
        """How long to wait before the next attempt.

        Raises:
            ClientError: the error itself: it is not one to try again after, or there is no attempt or time left.
        """
        self._made += 1
        retried = isinstance(error, RETRIED) and getattr(error, "status", None) != GATEWAY_TIMEOUT
        if not retried or self._made >= self._retries.attempts:
            raise error
        wait_s = self._retries.wait_s(self._made, getattr(error, "retry_after_s", None))
        if self.ends_s is not None and time.monotonic() + wait_s >= self.ends_s:
            raise error
        return wait_s

    def out_of_time(self) -> AnswerTimeoutError:
        """The error of a call whose total time-out has passed."""
        return AnswerTimeoutError(
            f"{self.request}: no answer within {self._timeouts.total_s:g} s", remedy="allow it more time"
        )
