"""Unknown models, versions, routes, parameters and methods; deadlines that are too short."""

import random
from typing import Final
from urllib.parse import quote

from scripts.attack.attempts import Attempt, chance, due, query, request
from scripts.attack.right import image_body, predicting, predicting_or_failing
from scripts.attack.world import World

NAMES: Final = (
    "alexnet", "SEQUENTIAL", "sequentia", "sequential ", "", ".", "..", "../sequential", "%00", "a\x00b", "é",
    "名前", "a" * 300, "sequential/1", "'; DROP TABLE models", "{{7*7}}", "-1", "null", "%2e%2e%2f",
)  # fmt: skip
VERSIONS: Final = (
    "0",
    "-1",
    "01",
    "99",
    "9" * 30,
    "1.0",
    "latest",
    "stable",
    "",
    " 1",
    "1e3",
    "\u0661",
    "\x00",
    "../1",
)
SPELLINGS: Final = ("modle", "Model", "versoin", "topk", "top-k", "top_k[]", "model[0]", "k" * 200, "é", "")
TOO_LOW_OR_HIGH: Final = ("0", "11")
VALUES: Final = ("33", "-1", "abc", "1.5", "", "9" * 40, "0x3", " ", "NaN", "\u0661")
ROUTES: Final = (
    "/predict/", "/Predict", "//predict", "/predict/extra", "/v2/models", "/v1/models", "/admin", "/.env",
    "/models/../../etc/passwd", "/models/%2e%2e/%2e%2e/etc/passwd",
    "/models/sequential/versions/1/plots/../metadata.json",
    "/models/sequential/versions/1/plots/%2e%2e%2fmetadata.json", "/static/../../app.py", "/wp-login.php", "/%",
    "/%zz",
)  # fmt: skip
METHODS: Final = ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
TOKENS: Final = ("", "Bearer", "Bearer wrong", "Basic YTpi", "bearer \xff\xfe", "Bearer " + "a" * 3000)


def unknown(draw: random.Random, world: World) -> Attempt:
    """Draw a request for an unknown model or version, over any protocol."""
    name = quote(draw.choice(NAMES), safe=draw.choice(["", "/"]))
    version = quote(draw.choice(VERSIONS), safe="")
    known = world.target(draw).model
    body, content_type = image_body(world.picture(draw), draw)
    paths = {
        "predict": f"/predict?model={name}",
        "version": f"/predict?model={known}&version={version}",
        "compare": f"/compare?model={name}&model={known}/{version}",
        "v2": f"/v2/models/{name}/infer",
        "v2 version": f"/v2/models/{known}/versions/{version}/infer",
        "v1": f"/v1/models/{name}:predict",
        "v1 version": f"/v1/models/{known}/versions/{version}:predict",
        "v1 label": f"/v1/models/{known}/labels/{version}:predict",
    }
    chosen = draw.choice(list(paths))
    # An empty name means the default model; V1 and V2 may reject the body, an image, before the name.
    accepted = due(400, 404, 405, 415, 422) if name and version else due(200, 307, 400, 404, 405, 415, 422)
    return Attempt(chosen, request("POST", paths[chosen], body, [content_type]), accepted, reuses=True)


def parameters(draw: random.Random, world: World) -> Attempt:
    """Draw a request with a parameter that is misspelt, out of range or of the wrong type."""
    body, content_type = image_body(world.picture(draw), draw)
    path = draw.choice(["/predict", "/predict/batch", "/compare", "/explain"])
    if chance(draw, 0.5):
        asked = query(path, **{draw.choice(SPELLINGS): "1"})
    elif path == "/explain":
        asked = query(path, **{draw.choice(["patch", "stride", "class_id"]): draw.choice(VALUES)})
    else:
        asked = query(path, top_k=draw.choice([*VALUES, *TOO_LOW_OR_HIGH]))
    # The body has one picture: for /predict/batch, its field may be found wrong first.
    statuses = (400, 415, 422) if path == "/predict/batch" else (415, 422)
    return Attempt(path, request("POST", asked, body, [content_type]), due(*statuses), reuses=True)


def routes(draw: random.Random, _world: World) -> Attempt:
    """Draw a request for an unknown route or with the wrong method."""
    if chance(draw, 0.3):
        path = draw.choice(["/admin/reload", "/v2/repository/index", "/v2/repository/models/sequential/unload"])
        headers = [("Authorization", draw.choice(TOKENS))]
        return Attempt("no token", request("POST", path, b"{}", headers), due(401, 404), reuses=True)
    if chance(draw, 0.5):
        return Attempt("route", request("GET", draw.choice(ROUTES)), due(307, 400, 404, 405), may_close=True)
    path = draw.choice(["/predict", "/predict/batch", "/compare", "/explain"])
    return Attempt("method", request(draw.choice(METHODS), path), due(404, 405), reuses=True)


def deadlines(draw: random.Random, world: World) -> Attempt:
    """Draw a request with a deadline of a few milliseconds."""
    content, check = predicting_or_failing(draw, world)
    timeout = draw.choice(["1", "1", "2", "3", "5", "20"])
    name, _, rest = content.partition(b"\r\n")
    content = b"%b\r\nX-Request-Timeout-Ms: %b\r\n%b" % (name, timeout.encode(), rest)
    return Attempt(f"{timeout} ms", content, due(200, 503, 504, check=check), reuses=True)


def bad_deadlines(draw: random.Random, world: World) -> Attempt:
    """Draw a request with an invalid deadline."""
    content, _ = predicting(draw, world)
    name, _, rest = content.partition(b"\r\n")
    value = draw.choice(["-1", "0", "0.1", "abc", "nan", "inf", "1e999", "", "10,5", "9" * 400, "\xff"]).encode(
        "latin-1"
    )
    content = b"%b\r\nX-Request-Timeout-Ms: %b\r\n%b" % (name, value, rest)
    return Attempt("no number", content, due(200, 422), reuses=True)
