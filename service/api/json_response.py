"""A record as the body of an answer."""

from fastapi import Response

from catalog.metadata import Record


def json_response(record: Record) -> Response:
    """The response; unlike what FastAPI makes of a record that a route returns, it is not validated once more."""
    return Response(record.model_dump_json(), media_type="application/json")
