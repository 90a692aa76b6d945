"""Records as answers, and handlers as FastAPI's endpoints."""

from fastapi import Request, Response

from catalog.metadata import Record
from service.http.errors import Answer, to_response
from service.http.exchange import AsgiExchange, Handler
from service.settings import Settings


def record_answer(record: Record) -> Answer:
    """Return a record as an answer; unlike one that a route returns, it is not validated once more."""
    return Answer(record.model_dump_json().encode())


async def respond(request: Request, settings: Settings, handler: Handler) -> Response:
    """Return what a handler answers to a request that came by FastAPI's routes."""
    return to_response(await AsgiExchange(request.scope, request.receive, settings).run(handler))
