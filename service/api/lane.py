"""How an endpoint in a fast lane (`service.middleware.FastLanes`) answers: the body, or a problem document.

FastAPI's routing, dependencies and handlers are gone round; this is what is left of them.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.api.client_watch import CLIENT_GONE
from service.api.problems import client_gone_response, internal_error_response, problem_response, unexpected
from service.errors import RequestError, forget_frames
from service.observing import observation_of


@dataclass(frozen=True, slots=True)
class Answer:
    """A body with status 200, and its headers but for the length."""

    body: bytes
    headers: Sequence[tuple[bytes, bytes]]


async def answer_in_lane(
    scope: Scope, receive: Receive, send: Send, answer: Callable[[Scope, Receive], Awaitable[Answer]]
) -> None:
    """Send what `answer` gives, or the problem document of what it raises."""
    observation = observation_of(scope)
    observation.is_inference = True
    try:
        given = await answer(scope, receive)
    except RequestError as error:
        forget_frames(error)
        observation.fail(error.kind, error.problem)
        await problem_response(error)(scope, receive, send)
        return
    except ClientDisconnect:
        observation.error = CLIENT_GONE
        await client_gone_response()(scope, receive, send)
        return
    except Exception as error:
        observation.detail = unexpected(error)
        await internal_error_response(error)(scope, receive, send)
        raise  # for the server's log
    headers = [*given.headers, (b"content-length", b"%d" % len(given.body))]
    await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
    await send({"type": "http.response.body", "body": given.body})
