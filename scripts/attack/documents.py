"""JSON documents and binary tensors that violate the protocols."""

import base64
import copy
import random
from typing import Any, Final

import orjson

from scripts.attack.attempts import Attempt, chance, due, request
from scripts.attack.right import HEADER_LENGTH, JSON, binary_request, open_inference_input
from scripts.attack.world import World

ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1.5, 1e308, 2**63 - 1, -(2**63), "", "a", "é", "\x00", [], [[]], {}, {"b64": 1},
    {"b64": ""}, {"b64": "!"}, [None], "9" * 400, [0] * 3072, {"a": {"b": {"c": []}}}, "images", "UINT8",
    "FP32", [1, 32, 32, 3], [-1], [2**62], [0], [1] * 9,
)  # fmt: skip
RAW: Final = (
    b"NaN", b"Infinity", b"-0", b"1e400", b"9" * 500, b'"\\ud800"', b'"\\udfff\\ud800"', b'"\xff"', b"'a'",
    b"01", b"+1", b"[1,]", b"/* a */ 1", b'"\x01"', b"\xef\xbb\xbf1", b"undefined", b'{"a":1,"a":2}', b"",
)  # fmt: skip
PLACE: Final = "a-place-for-odd-bytes"
BODIES: Final = (
    b"", b"null", b"0", b'""', b"[]", b"{}", b"{", b"\x00", b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}",
    b"[" * 1000, b"{}{}", b" " * 5000, b'{"instances": []}', b'{"inputs": []}',
    b'{"instances": [1], "inputs": [1]}', b'{"inputs": [{}]}', b"\x1f\x8b\x08",
)  # fmt: skip
LENGTHS: Final = (-1, 0, 1, 2**31, 2**32 - 1)
ANSWERS: Final = due(200, 400, 413, 415, 422, 501, 504)
"""200 is allowed, because a change may have no effect; 504, because it may set a deadline."""


def odd_json(draw: random.Random, world: World) -> Attempt:
    """Draw a valid document with one part replaced, or something that is not a document."""
    path, document = _right(draw, world)
    if chance(draw, 0.15):
        body = request("POST", path, draw.choice(BODIES), [JSON])
        return Attempt("no document", body, due(200, 400, 415), reuses=True)
    is_raw = chance(draw, 0.3)
    value = PLACE if is_raw else copy.deepcopy(draw.choice(ODD))
    name = _replace(draw, document, value)
    body = orjson.dumps(document)
    if is_raw:
        body = body.replace(b'"%b"' % PLACE.encode(), draw.choice(RAW), 1)
    elif chance(draw, 0.1):
        name, body = "cut off", body[: draw.randrange(len(body))]
    return Attempt(name, request("POST", path, body, [JSON]), ANSWERS, reuses=True)


def encodings(draw: random.Random, world: World) -> Attempt:
    """Draw a body that doesn't match its Content-Encoding."""
    path, document = _right(draw, world)
    encoding = draw.choice(["gzip", "deflate", "br", "zstd", "x-gzip", "gzip, gzip", "identity", "é", "a" * 500])
    body = draw.choice([orjson.dumps(document), b"", b"\x1f\x8b\x08" + draw.randbytes(50), draw.randbytes(200)])
    headers = [JSON, ("Content-Encoding", encoding.encode().decode("latin-1"))]
    return Attempt("encoding", request("POST", path, body, headers), due(200, 400, 415), reuses=True)


def wrong_sizes(draw: random.Random, world: World) -> Attempt:
    """Draw binary tensors with inconsistent sizes."""
    target = world.target(draw)
    head, tensor = binary_request([world.picture(draw) for _ in range(draw.randint(1, 3))], draw)
    length = str(len(head))
    match draw.randrange(6):
        case 0:
            length = str(
                draw.choice([*LENGTHS, len(head) - 1, len(head) + 1, len(head) + len(tensor), "abc", "", "1e2"])
            )
        case 1:
            tensor = tensor[: draw.randrange(len(tensor))]
        case 2:
            tensor += draw.randbytes(draw.randint(1, 100))
        case 3:
            tensor = draw.choice(LENGTHS[1:]).to_bytes(4, "little") + tensor[4:]
        case 4:
            head = _with_parameter(head, draw)
            length = str(len(head))
        case _:
            tensor = tensor[:4] + tensor[:4] + tensor[8:]
    content = request("POST", f"/v2/models/{target.model}/infer", head + tensor, [(HEADER_LENGTH, length)])
    return Attempt("sizes", content, due(200, 400, 413, 501), reuses=True)


def _with_parameter(head: bytes, draw: random.Random) -> bytes:
    document = orjson.loads(head)
    place = draw.choice([document["inputs"][0], document["outputs"][0]])
    names = ["binary_data_size", "binary_data", "classification", "shared_memory_region"]
    place["parameters"][draw.choice(names)] = copy.deepcopy(draw.choice(ODD))
    return orjson.dumps(document)


def _right(draw: random.Random, world: World) -> tuple[str, dict[str, Any]]:
    """Draw a path and a valid document for it."""
    target, picture = world.target(draw), world.picture(draw)
    if chance(draw, 0.5):
        given = open_inference_input([picture], draw)
        output = {"name": "probabilities", "parameters": {"classification": 3}}
        document = {"id": "1", "inputs": [given], "outputs": [output], "parameters": {"timeout": 10_000_000}}
        return f"/v2/models/{target.model}/infer", document
    image = {"b64": base64.b64encode(picture.content).decode()}
    if chance(draw, 0.3):
        return f"/v1/models/{target.model}:classify", {"examples": [{"image_bytes": image}]}
    return f"/v1/models/{target.model}:predict", {"signature_name": "encoded_images", "instances": [image]}


def _replace(draw: random.Random, document: Any, value: Any) -> str:
    """Replace, remove or add one part of a document; return the part's name."""
    places: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else list(range(min(len(node), 4)))
        places += [(node, key) for key in keys]
        waiting += [node[key] for key in keys if isinstance(node[key], dict | list)]
    node, key = draw.choice(places)
    match draw.randrange(6):
        case 0:
            del node[key]
        case 1 if isinstance(node, list):
            node.append(value)
        case 1:
            node[draw.choice(["x", "b64", "data", "parameters", "instances", "shared_memory_region"])] = value
        case _:
            node[key] = value
    return f"odd {key}" if isinstance(key, str) else "odd element"
