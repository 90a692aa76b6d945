"""Valid requests as written by other languages' clients: base64, compression, null, header values, media types."""

import base64
import gzip
import json
import random
import re
from typing import Any, Final

import orjson

from scripts.attack.attempts import Answer, Attempt, Check, chance, due, query, request
from scripts.attack.right import JSON
from scripts.attack.world import Picture, Target, World

PNG_TYPES: Final = (
    "image/x-png", "image/apng", "IMAGE/PNG", "image/png ", "\timage/png\t", "image/png; charset=binary", "image/*",
    "application/octet-stream", "binary/octet-stream",
)  # fmt: skip
ENCODINGS: Final = ("gzip", "x-gzip", "GZIP")
NULLS: Final = ("id", "parameters", "outputs")


def lenient(draw: random.Random, world: World) -> Attempt:
    """Draw an unusual request that the protocol, or its reference server, accepts."""
    picture, target = world.picture(draw), world.target(draw)
    match draw.randrange(4):
        case 0:
            name = draw.choice(PNG_TYPES)
            headers = [("Content-Type", name), ("X-Padded", " a \t")]
            content = request("POST", query("/predict", model=target.model), picture.content, headers)
            return Attempt(f"type {name}", content, due(200, check=world.predicts(target.model, picture)), reuses=True)
        case 1:
            name, encoded = _encoded(draw, picture)
            document: dict[str, Any] = {"signature_name": "encoded_images", "instances": [{"b64": encoded}]}
            return _v1(f"base64 {name}", target, _first_row(world, target, picture), orjson.dumps(document))
        case 2:
            document = {"signature_name": "encoded_images", "instances": [{"b64": _encoded(draw, picture)[1]}]}
            body = orjson.dumps(document)
            cut = draw.randrange(len(body))
            members = gzip.compress(body[:cut]) + gzip.compress(body[cut:])
            return _v1("gzip members", target, _first_row(world, target, picture), members, draw.choice(ENCODINGS))
        case _:
            return _v2_with_nulls(draw, world, target, picture)


def _encoded(draw: random.Random, picture: Picture) -> tuple[str, str]:
    plain = base64.b64encode(picture.content).decode()
    ways = {
        "plain": plain,
        "with line ends": base64.encodebytes(picture.content).decode(),
        "with CRLF": "\r\n".join(re.findall(".{1,76}", plain)),
        "without padding": plain.rstrip("="),
        "for URLs": base64.urlsafe_b64encode(picture.content).decode(),
    }
    name = draw.choice(list(ways))
    return name, ways[name]


def _v1(name: str, target: Target, check: Check, body: bytes, encoding: str | None = None) -> Attempt:
    headers = [JSON, *([("Content-Encoding", encoding)] if encoding else [])]
    content = request("POST", f"/v1/models/{target.model}:predict", body, headers)
    return Attempt(name, content, due(200, check=check), reuses=True)


def _first_row(world: World, target: Target, picture: Picture) -> Check:
    return lambda answer: world.problem(target.model, picture, json.loads(answer.body)["predictions"][0])


def _v2_with_nulls(draw: random.Random, world: World, target: Target, picture: Picture) -> Attempt:
    def check(answer: Answer) -> str:
        return world.problem(target.model, picture, json.loads(answer.body)["outputs"][0]["data"])

    given: dict[str, Any] = {
        "name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(picture.content).decode()],
    }  # fmt: skip
    document: dict[str, Any] = {"inputs": [given]} | {name: None for name in NULLS if chance(draw, 0.5)}
    if chance(draw, 0.5):
        given["parameters"] = None
    if chance(draw, 0.5):
        document["outputs"] = [{"name": "probabilities", "parameters": None}]
    content = request("POST", f"/v2/models/{target.model}/infer", orjson.dumps(document), [JSON])
    return Attempt("nulls", content, due(200, check=check), reuses=True)
