"""`POST /v2/models/{model}[/versions/{version}]/infer`: its handler goes past FastAPI's routing and validation.

What the OpenAPI document says of it is declared by the routes of `routes`.
"""

import re
from typing import Final

from service.api.large_requests import RequestReader
from service.api.open_inference.infer_request import json_bytes, parse_infer_request
from service.api.open_inference.infer_response import RAW_HEADER_LENGTH, infer_answer
from service.api.open_inference.metadata import requested_version
from service.core.pipeline import Pipeline
from service.http.body import content_codings, decompress
from service.http.errors import Answer
from service.http.exchange import Handler, HttpExchange

PATHS: Final = re.compile(r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?/infer")


def infer_handler(pipeline: Pipeline, reader: RequestReader) -> Handler:
    """Return what answers infer requests; their path parameters are the groups of `PATHS`."""

    async def infer(exchange: HttpExchange) -> Answer:
        model, version = exchange.path_params["model"], exchange.path_params["version"]
        exchange.trace.request_model(model, version)
        given = exchange.headers.get(RAW_HEADER_LENGTH)
        header_length = None if given is None else given.decode("latin-1")
        with pipeline.admit(exchange) as slot:
            codings = content_codings(exchange.headers)
            body, deadline = await exchange.read(slot)
            if codings:
                body = await decompress(body, codings, slot, max_body_bytes=exchange.settings.max_body_bytes)
            asked = await reader.read(
                json_bytes(body, header_length),
                deadline,
                parse_infer_request,
                body,
                header_length,
                max_rows=pipeline.max_request_rows,
            )
            del body
            inferred = await pipeline.infer(
                asked.inputs,
                exchange.trace,
                deadline.at_most(asked.timeout_s),
                model=model,
                version=requested_version(version or ""),
            )
            return infer_answer(asked, inferred.require_all())

    return infer
