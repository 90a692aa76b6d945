"""The attempts of one call: how long the next one may take, and whether there is a next one."""

import logging
import math
import time
from typing import Final

import httpx

from client._config import MAX_SECONDS, MOST_LOST, Retries, Timeouts
from client._errors import (
    AnswerTimeoutError,
    ClientError,
    ConnectionLostError,
    GatewayError,
    UnavailableError,
    Unreachable,
    UnreachableError,
)

logger = logging.getLogger(__name__)

RETRIED: Final = (UnavailableError, GatewayError)
GATEWAY_TIMEOUT: Final = 504
LONG: Final = 5
"""From so many attempts on, a caller who looks at the log is told what is waited for."""
SHORT_ATTEMPT_S: Final = 1.0
"""An attempt in less says nothing of a service that answered others."""
LEAST_ATTEMPT_S: Final = 0.02
"""Shortest time in which an answer can be expected."""


class Contact:
    """Remember whether a client has ever had an answer, of whatever kind: then a service was there."""

    def __init__(self) -> None:
        self.made = False


class Attempts:
    """One call's attempts, from the moment that this is made.

    Args:
        request: what is asked, in words.
        contact: of the client; made from the first answer on.
    """

    def __init__(self, request: str, timeouts: Timeouts, retries: Retries, contact: Contact) -> None:
        self.request = request
        self._timeouts = timeouts
        self._retries = retries
        self._contact = contact
        self.ends_s = None if timeouts.total_s is None else time.monotonic() + timeouts.total_s
        """When the total time-out passes, on the monotonic clock; None where there is none."""
        self._made = 0
        self._lost = 0
        self._last: ClientError | None = None
        self._attempt_s: float | None = None

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
        self._attempt_s = left_s = self.left_s()
        connect_s, read_s = self._timeouts.connect_s, self._timeouts.read_s
        if left_s is not None:
            connect_s, read_s = min(connect_s, left_s), min(read_s, left_s)
        return httpx.Timeout(connect=connect_s, read=read_s, write=read_s, pool=left_s)

    def wait_s(self, error: ClientError) -> float:
        """How long to wait before the next attempt.

        Raises:
            ClientError: the error itself: it is not one to try again after, or there is no attempt or time left.
        """
        self._last = error
        self._made += 1
        self._lost += isinstance(error, ConnectionLostError)
        if not self._is_passing(error) or self._made >= self._most(error):
            raise error
        retry_after_s = getattr(error, "retry_after_s", None) or 0.0
        wait_s = self._retries.wait_s(self._made, retry_after_s)
        left_s = MAX_SECONDS if self.ends_s is None else self.ends_s - time.monotonic()
        if retry_after_s >= left_s:
            raise error
        if self._made >= LONG:
            logger.info("%s; retrying%s", error.problem, self._for_how_long(left_s))
        if wait_s < left_s:
            return wait_s
        # The last waits are shorter, so that a service which is back just before the time-out is asked.
        wait_s = retry_after_s + (left_s - retry_after_s) / 2
        if left_s - wait_s < LEAST_ATTEMPT_S:
            raise error
        return wait_s

    def _for_how_long(self, left_s: float) -> str:
        return "" if self.ends_s is None else f" for up to {math.ceil(left_s)} s"

    def begin_next(self) -> None:
        """Begin the next attempt, after the wait.

        Raises:
            ClientError: the last error: the wait took longer than it should, and no time is left.
        """
        if self._last is not None and self.ends_s is not None and time.monotonic() >= self.ends_s:
            raise self._last

    def _is_passing(self, error: ClientError) -> bool:
        if isinstance(error, ConnectionLostError):
            return self._retries.attempts is not None or self._lost < MOST_LOST
        if isinstance(error, UnreachableError):
            return error.cause is not Unreachable.PERMANENT
        return isinstance(error, RETRIED) and getattr(error, "status", None) != GATEWAY_TIMEOUT

    def _most(self, error: ClientError) -> float:
        most = [self._retries.attempts]
        if isinstance(error, UnreachableError) and not self._contact.made:
            most.append(self._retries.attempts_before_contact)
            if error.cause is not Unreachable.REFUSED:
                most.append(MOST_LOST)
        return min((count for count in most if count is not None), default=math.inf)

    def out_of_time(self) -> ClientError:
        """The error of a call whose total time-out has passed; the one before, if the last attempt was short."""
        if self._last is not None and self._attempt_s is not None and self._attempt_s < SHORT_ATTEMPT_S:
            return self._last
        return AnswerTimeoutError(
            f"{self.request}: no answer within {self._timeouts.total_s:g} s", remedy="increase the time-out"
        )
