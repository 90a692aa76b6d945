"""How every native route that predicts takes a request: a slot, the deadline, the body, and a watch on its client.

What a body may be is `request_body`'s part, what is done with it the route's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from starlette.types import Receive, Scope

from catalog.responses import InvalidParameter
from service.api.client_watch import ClientWatch
from service.api.request_body import RawHeaders, upload_timeout
from service.core.admission import Slot
from service.core.backlog import Begun, Refusal
from service.core.inference import Inference, deadline_passed
from service.core.observation import Observation
from service.errors import InvalidParameterError, RequestError, UnavailableError
from service.observing import begun_of, observation_of
from service.settings import Settings

TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"
RAW_TIMEOUT_HEADER: Final = TIMEOUT_HEADER.lower().encode()
MAX_TIMEOUT_MS: Final = 3_600_000

Body = TypeVar("Body")
Answer = TypeVar("Answer")


async def answer_request(
    scope: Scope,
    receive: Receive,
    inference: Inference,
    settings: Settings,
    *,
    read: Callable[[RawHeaders, Receive, Slot], Awaitable[Body]],
    answer: Callable[[Body, Observation, float], Awaitable[Answer]],
) -> Answer:
    """Read a request and answer it, within one slot.

    Args:
        read: takes headers, `receive` and slot, and gives the body.
        answer: takes the body, the request's observation, and the longest time to the answer in seconds.

    Raises:
        ClientDisconnect: the client went away.
        RequestError: there is no slot, or what `read` and `answer` raise.
    """
    observation = observation_of(scope)
    observation.is_inference = True
    watch = ClientWatch(receive)
    begun = begun_of(scope)
    try:
        if begun is not None and begun.refused is not None:
            raise begun.refused
        with inference.slot() as slot:
            headers = dict(scope["headers"])
            timeout_s = time_left_s(headers, settings.request_timeout_s, begun)
            watch.expect_body(settings.upload_timeout_s, upload_timeout)
            body = [await read(headers, receive, slot)]
            watch.begin()
            # Handed over and not kept: a body is large, and what is made of it is, too.
            return await answer(body.pop(), observation, timeout_s)
    except UnavailableError as error:
        note_shortage(error, begun, observation)
        raise
    except asyncio.CancelledError:
        watch.raise_cause()
        raise
    finally:
        watch.end()


def note_shortage(error: RequestError, begun: Begun | None, observation: Observation) -> None:
    """Have whatever asks for the same be refused before it begins, as long as there is too little for it."""
    if begun is not None and isinstance(error, UnavailableError) and error.shortage is not None:
        version = None if observation.model is None else (observation.model, observation.version or 0)
        begun.backlog.refuse_alike(begun.target, Refusal(error.shortage, version))


def time_left_s(headers: RawHeaders, longest_s: float, begun: Begun | None) -> float:
    """How much time a request has: its own deadline or the service's, less what it has waited in the backlog.

    Raises:
        InvalidParameterError: its own deadline is none.
        DeadlineError: it has waited too long.
    """
    timeout_s = _timeout_s(headers, longest_s)
    if begun is None or not begun.waited_s:
        return timeout_s
    if begun.waited_s >= timeout_s:
        raise deadline_passed(timeout_s)
    return round(timeout_s - begun.waited_s, 3)


def _timeout_s(headers: RawHeaders, longest_s: float) -> float:
    """The request's own deadline, where it names one; never longer than the service's."""
    raw = headers.get(RAW_TIMEOUT_HEADER)
    if raw is None:
        return longest_s
    asked = raw.decode("latin-1")
    if not (asked.isascii() and asked.isdigit() and 1 <= int(asked[:10]) <= MAX_TIMEOUT_MS):
        expected = f"a whole number of milliseconds, 1 to {MAX_TIMEOUT_MS:,}"
        raise InvalidParameterError([InvalidParameter(name=TIMEOUT_HEADER, value=asked[:100], expected=expected)])
    return min(longest_s, int(asked) / 1000)
