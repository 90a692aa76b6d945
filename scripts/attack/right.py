"""Valid requests of every HTTP route and protocol; each must get 200 with the answer learnt at the start."""

import base64
import gzip
import json
import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import orjson

from scripts.attack.attempts import Answer, Attempt, Check, Due, chance, chunked, due, query, request
from scripts.attack.world import TOLERANCE, Picture, Target, World

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
BOUNDARY_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
JSON: Final = ("Content-Type", "application/json")
QUESTIONS: Final = ("/livez", "/readyz", "/models", "/stats", "/metrics", "/v2", "/v2/health/live", "/v2/health/ready")
MAX_PAUSE_S: Final = 0.01


def boundary(draw: random.Random) -> str:
    """Draw a boundary, as clients do for each form."""
    return f"{'-' * draw.randrange(0, 27)}{''.join(draw.choices(BOUNDARY_LETTERS, k=draw.randint(8, 32)))}"


def form(parts: Sequence[tuple[str, str, str, bytes]], mark: str) -> bytes:
    """Build a multipart form from parts: field, file name, media type, content."""
    pieces = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'.encode()
        + (f"Content-Type: {media_type}\r\n\r\n".encode() if media_type else b"\r\n")
        + content
        + b"\r\n"
        for field, name, media_type, content in parts
    ]
    return b"".join([*pieces, f"--{mark}--\r\n".encode()])


def form_type(mark: str) -> tuple[str, str]:
    """Return the Content-Type header of a form."""
    return ("Content-Type", f"multipart/form-data; boundary={mark}")


def image_body(picture: Picture, draw: random.Random, field: str = "file") -> tuple[bytes, tuple[str, str]]:
    """Draw a body with an image, as a form or as the file itself, and its content type."""
    if chance(draw, 0.5):
        return picture.content, ("Content-Type", draw.choice([picture.media_type, "application/octet-stream"]))
    mark, name = boundary(draw), f"{draw.randrange(10**9)}.{draw.choice(['png', 'PNG', 'x'])}"
    return form([(field, name, picture.media_type, picture.content)], mark), form_type(mark)


def predict(draw: random.Random, world: World) -> Attempt:
    """Draw a prediction of a small image over a keep-alive connection: the fast path."""
    picture, target = world.picture(draw), world.target(draw)
    body, content_type = image_body(picture, draw)
    asked = query(
        "/predict", model=target.model, version=draw.choice([None, target.version]), top_k=draw.choice([None, 1, 10])
    )
    content = request("POST", asked, body, [content_type])
    return Attempt("predict", content, due(200, check=world.predicts(target.model, picture)), reuses=True)


def predict_otherwise(draw: random.Random, world: World) -> Attempt:
    """Draw the same prediction as less common clients send it."""
    picture, target = world.picture(draw), world.target(draw)
    body, content_type = image_body(picture, draw)
    asked = query("/predict", model=target.model)
    right = due(200, check=world.predicts(target.model, picture))
    match draw.randrange(5):
        case 0:
            cuts = sorted(draw.sample(range(1, len(body)), draw.randint(1, 8)))
            chunks = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
            return Attempt("chunked", chunked("POST", asked, chunks, [content_type]), right, reuses=True)
        case 1:
            content = request("POST", asked, body, [content_type, ("Expect", "100-continue")])
            end = content.index(b"\r\n\r\n") + 4
            return Attempt("expect-continue", content, right, reuses=True, cuts=(end,), pause_s=MAX_PAUSE_S)
        case 2:
            content = request("POST", asked, body, [content_type]).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
            return Attempt("http-1.0", content, right, must_close=True)
        case 3:
            content = request("POST", asked, body, [content_type])
            pauses = tuple(sorted(draw.sample(range(1, len(content)), 3)))
            return Attempt("pieces", content, right, reuses=True, cuts=pauses, pause_s=draw.random() * MAX_PAUSE_S)
        case _:
            content = request("POST", f"http://attack:8000{asked}", body, [content_type], close=True)
            return Attempt("absolute-target", content, right, must_close=True)


def photo(draw: random.Random, world: World) -> Attempt:
    """Draw a prediction of a larger image, which needs a decoder thread; these may be busy."""
    picture, target = draw.choice(world.photos), world.target(draw)
    body, content_type = image_body(picture, draw)
    content = request("POST", query("/predict", model=target.model), body, [content_type])
    return Attempt("photo", content, due(200, 503, 504, check=world.predicts(target.model, picture)), reuses=True)


def batch(draw: random.Random, world: World) -> Attempt:
    """Draw a batch of several files in one form."""
    target, mark = world.target(draw), boundary(draw)
    pictures = [world.picture(draw) for _ in range(draw.randint(1, 8))]
    parts = [("files", f"{index}.png", picture.media_type, picture.content) for index, picture in enumerate(pictures)]

    def check(answer: Answer) -> str:
        results = json.loads(answer.body)["results"]
        if [result["name"] for result in results] != [name for _, name, _, _ in parts]:
            return f"other names: {results}"
        problems = [
            world.problem_of_prediction(target.model, picture, result["prediction"])
            for picture, result in zip(pictures, results, strict=True)
        ]
        return next(filter(None, problems), "")

    asked = query("/predict/batch", model=target.model)
    content = request("POST", asked, form(parts, mark), [form_type(mark)])
    return Attempt("batch", content, due(200, check=check), reuses=True)


def compare(draw: random.Random, world: World) -> Attempt:
    """Draw a comparison of several models' answers for one image."""
    picture = world.picture(draw)
    asked = draw.sample(world.targets, draw.randint(1, len(world.targets)))
    body, content_type = image_body(picture, draw)

    def check(answer: Answer) -> str:
        answers = json.loads(answer.body)["answers"]
        if [entry["model"] for entry in answers] != [target.model for target in asked]:
            return f"other models: {answers}"
        problems = [world.problem_of_prediction(entry["model"], picture, entry["prediction"]) for entry in answers]
        return next(filter(None, problems), "")

    content = request("POST", query("/compare", model=[target.model for target in asked]), body, [content_type])
    return Attempt("compare", content, due(200, check=check), reuses=True)


def explain(draw: random.Random, world: World) -> Attempt:
    """Draw an explanation of one image."""
    picture, target = world.picture(draw), world.target(draw)
    body, content_type = image_body(picture, draw)

    def check(answer: Answer) -> str:
        explained = json.loads(answer.body)
        right = world.expected(target.model, picture)
        difference = abs(right[explained["class_id"]] - explained["confidence"])
        shape = np.shape(explained["importance"])
        return (
            "" if difference <= TOLERANCE and shape == (32, 32) else f"{target.model}: {explained} instead of {right}"
        )

    asked = query("/explain", model=target.model, patch=8, stride=8)
    return Attempt("explain", request("POST", asked, body, [content_type]), due(200, check=check), reuses=True)


def tensor_flow_serving(draw: random.Random, world: World) -> Attempt:
    """Draw a `:predict` of TensorFlow Serving: files or numbers, rows or columns, compressed or not."""
    target = world.target(draw)
    pictures = [world.picture(draw) for _ in range(draw.randint(1, 3))]
    key, answer_key = draw.choice([("instances", "predictions"), ("inputs", "outputs")])
    document: dict[str, Any]
    if chance(draw, 0.8):
        files = [{"b64": base64.b64encode(picture.content).decode()} for picture in pictures]
        document = {"signature_name": "encoded_images", key: files}
    else:
        document = {key: [pixels_of(picture).tolist() for picture in pictures]}

    def check(answer: Answer) -> str:
        return _problem_of_rows(world, target, pictures, json.loads(answer.body)[answer_key])

    body, headers = _compressed(orjson.dumps(document), draw)
    content = request("POST", f"/v1/models/{target.model}:predict", body, [JSON, *headers])
    return Attempt(f"v1-{key}", content, due(200, check=check), reuses=True)


def open_inference_json(draw: random.Random, world: World) -> Attempt:
    """Draw a V2 inference request in JSON."""
    target, mark = world.target(draw), f"{draw.randrange(10**9)}"
    pictures = [world.picture(draw) for _ in range(draw.randint(1, 3))]
    document = {"id": mark, "inputs": [open_inference_input(pictures, draw)]}

    def check(answer: Answer) -> str:
        answered = json.loads(answer.body)
        if answered["id"] != mark or answered["model_name"] != target.model:
            return f"another request's answer: {answer.body[:200]!r}, not of {target.model} {mark}"
        (output,) = answered["outputs"]
        return _problem_of_rows(world, target, pictures, np.reshape(output["data"], output["shape"]).tolist())

    body, headers = _compressed(orjson.dumps(document), draw)
    content = request("POST", _infer_path(target, draw), body, [JSON, *headers])
    return Attempt("v2-json", content, due(200, check=check), reuses=True)


def open_inference_input(pictures: Sequence[Picture], draw: random.Random) -> dict[str, Any]:
    """Draw an input of V2's JSON: files or numbers, flat or nested."""
    if chance(draw, 0.7):
        files = [base64.b64encode(picture.content).decode() for picture in pictures]
        return {"name": "image_bytes", "datatype": "BYTES", "shape": [len(files)], "data": files}
    pixels = np.stack([pixels_of(picture) for picture in pictures])
    data = pixels.tolist() if chance(draw, 0.5) else pixels.ravel().tolist()
    return {"name": "images", "datatype": "UINT8", "shape": list(pixels.shape), "data": data}


def open_inference_binary(draw: random.Random, world: World) -> Attempt:
    """Draw a V2 inference request with binary input and output."""
    target = world.target(draw)
    pictures = [world.picture(draw) for _ in range(draw.randint(1, 4))]
    head, tensor = binary_request(pictures, draw)

    def check(answer: Answer) -> str:
        length = int(answer.headers[HEADER_LENGTH.lower()])
        document, content = json.loads(answer.body[:length]), answer.body[length:]
        if document["model_name"] != target.model:
            return f"another model's answer: {document}"
        rows = np.frombuffer(content, "<f4").reshape(len(pictures), len(target.labels))
        return _problem_of_rows(world, target, pictures, rows.tolist())

    content = request("POST", _infer_path(target, draw), head + tensor, [(HEADER_LENGTH, str(len(head)))])
    return Attempt("v2-binary", content, due(200, check=check), reuses=True)


def binary_request(pictures: Sequence[Picture], draw: random.Random) -> tuple[bytes, bytes]:
    """Draw the JSON and the tensor of a binary V2 request."""
    if chance(draw, 0.5):
        tensor = b"".join(pixels_of(picture).tobytes() for picture in pictures)
        given: dict[str, Any] = {"name": "images", "datatype": "UINT8", "shape": [len(pictures), 32, 32, 3]}
    else:
        tensor = b"".join(len(picture.content).to_bytes(4, "little") + picture.content for picture in pictures)
        given = {"name": "image_bytes", "datatype": "BYTES", "shape": [len(pictures)]}
    given["parameters"] = {"binary_data_size": len(tensor)}
    output = {"name": "probabilities", "parameters": {"binary_data": True}}
    return orjson.dumps({"inputs": [given], "outputs": [output]}), tensor


def question(draw: random.Random, world: World) -> Attempt:
    """Draw a GET or HEAD of a monitoring route."""
    target = world.target(draw)
    path = draw.choice(
        [*QUESTIONS, *(f"{prefix}/{target.model}" for prefix in ("/models", "/v1/models", "/v2/models"))]
    )
    if path == "/livez" and chance(draw, 0.3):
        return Attempt("head", request("HEAD", path), (Due(frozenset({200, 405}), is_head=True),), reuses=True)
    return Attempt("question", request("GET", path), due(200), reuses=True)


def description(draw: random.Random, world: World) -> Attempt:
    """Draw a GET of a page or of the API's description."""
    target = world.target(draw)
    plot = f"/models/{target.model}/versions/{target.version}/plots/confusion_matrix.svg"
    path = draw.choice(["/", "/docs", "/openapi.json", f"/models/{target.model}/versions/{target.version}", plot])
    return Attempt("description", request("GET", path), due(200), reuses=True)


def pixels_of(picture: Picture) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Return the pixels of a 32x32 picture."""
    if picture.pixels is None:
        raise ValueError("a photo has no pixels of the models' size")
    return picture.pixels


def in_chunks(content: bytes) -> bytes:
    """Rewrite a request to send its body in one chunk, with a chunk extension and a trailer."""
    head, _, body = content.partition(b"\r\n\r\n")
    head = head.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
    return b"%b\r\n\r\n%x;name=value\r\n%b\r\n0\r\nX-Trailer: a\r\n\r\n" % (head, len(body), body)


def predicting(draw: random.Random, world: World) -> tuple[bytes, Check | None]:
    """Draw a valid prediction request of any route, and the check of its answer."""
    return _request_of(draw.choice([*ALL_OR_NOTHING, batch, compare]), draw, world)


def predicting_or_failing(draw: random.Random, world: World) -> tuple[bytes, Check | None]:
    """Draw a valid prediction request of a route that succeeds or fails as a whole, and the check of its answer."""
    return _request_of(draw.choice(ALL_OR_NOTHING), draw, world)


def _request_of(make: "Make", draw: random.Random, world: World) -> tuple[bytes, Check | None]:
    attempt = make(draw, world)
    return attempt.content, attempt.due[0].check


Make = Callable[[random.Random, World], Attempt]
ALL_OR_NOTHING: Final[tuple[Make, ...]] = (
    predict, predict, predict, tensor_flow_serving, open_inference_json, open_inference_binary
)  # fmt: skip


def _infer_path(target: Target, draw: random.Random) -> str:
    version = f"/versions/{target.version}" if chance(draw, 0.5) else ""
    return f"/v2/models/{target.model}{version}/infer"


def _compressed(body: bytes, draw: random.Random) -> tuple[bytes, list[tuple[str, str]]]:
    match draw.randrange(6):
        case 0:
            return gzip.compress(body, 1), [("Content-Encoding", "gzip")]
        case 1:
            return zlib.compress(body, 1), [("Content-Encoding", "deflate")]
        case _:
            return body, []


def _problem_of_rows(world: World, target: Target, pictures: Sequence[Picture], rows: Sequence[Sequence[float]]) -> str:
    if len(rows) != len(pictures):
        return f"{len(rows)} rows instead of {len(pictures)}"
    problems = [world.problem(target.model, picture, row) for picture, row in zip(pictures, rows, strict=True)]
    return next(filter(None, problems), "")
