"""Create the examples of the OpenAPI document: real answers of the service, and errors raised by its own code.

`python -m scripts.write_docs` stores them in `service/http/examples.json`. They are requested over HTTP from an
application that serves two of the published models. Errors that need a timeout or overload are created directly.
"""

import base64
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from fastapi.testclient import TestClient
from pydantic import SecretStr

from service.api.analyze import COMPARE_PATH, EXPLAIN_PATH
from service.api.page import WEB
from service.api.predict import BATCH_PATH
from service.api.predict import PATH as PREDICT
from service.app import create_app
from service.errors import RequestError
from service.http.body import upload_timeout
from service.http.errors import PROBLEM_TYPE, problem_of
from service.http.openapi import Examples
from service.inference.admission import Admission
from service.inference.pipeline import Deadline
from service.settings import Settings

ROOT: Final = Path(__file__).resolve().parent.parent
MODELS: Final = ("sequential", "functional")
MODEL: Final = MODELS[0]
CAT: Final = WEB / "samples/cat_0046.png"
SECRET: Final = SecretStr("the operator's secret")
LOAD_TIMEOUT_S: Final = 120.0
NEAR: Final = 0.02
"""Tolerance for the difference of a probability between two processors."""
VOLATILE: Final = ("_ms", "_s", "ns", "runtime_version", "device", "precision")
"""Suffixes of the names of values that vary between runs or machines."""

VERSION: Final = "/models/{name}/versions/{version}"
PLOT: Final = f"{VERSION}/plots/{{plot}}"
TAKE_AN_IMAGE: Final = (PREDICT, BATCH_PATH, COMPARE_PATH, EXPLAIN_PATH)
NATIVE_GETS: Final = ("/livez", "/readyz", "/stats", "/instance", "/models", "/models/{name}", VERSION)
V2: Final = "/v2/models/{model}"
V2_GETS: Final = ("/v2", "/v2/health/live", "/v2/health/ready", V2, f"{V2}/ready", f"{V2}/config")
V1: Final = "/v1/models/{model}"


def make_examples() -> Examples:
    """Return the examples."""
    examples: Examples = {}
    with _service() as (client, version):
        for name, response in _answers(client, version):
            if response.status_code != 200:  # noqa: PLR2004
                raise ValueError(f"{name} answered {response.status_code}: {response.text}")
            examples.setdefault(name, {})["200"] = response.json()
        for name, response in _faulty_requests(client):
            if response.headers["content-type"] != PROBLEM_TYPE:
                raise ValueError(f"{name} answered {response.status_code}, without a problem document: {response.text}")
            examples.setdefault(name, {})[str(response.status_code)] = response.json()
    for name, error in _rare_problems():
        problem = problem_of(error)
        examples.setdefault(name, {})[str(problem.status)] = problem.model_dump(mode="json", exclude_none=True)
    return examples


def are_equivalent(before: Any, now: Any, name: str = "") -> bool:
    """Return True if two examples differ only in values that vary between runs or machines."""
    if isinstance(before, dict) and isinstance(now, dict):
        return before.keys() == now.keys() and all(are_equivalent(before[key], now[key], key) for key in before)
    if name.endswith(VOLATILE):
        return True
    if isinstance(before, list) and isinstance(now, list):
        return len(before) == len(now) and all(
            are_equivalent(one, other, name) for one, other in zip(before, now, strict=True)
        )
    if isinstance(before, float) and isinstance(now, float):
        return abs(before - now) <= NEAR
    return bool(before == now)


@contextmanager
def _service() -> Iterator[tuple[TestClient, int]]:
    """Provide a client of a ready application, and the version of `MODEL` that it serves."""
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            (Path(folder) / name).symlink_to(ROOT / "models" / name)
        settings = _settings(models=folder, admin_token=SECRET, compiled_models=Path("off"), instance="server-1")
        with TestClient(create_app(settings)) as client:
            deadline_s = time.monotonic() + LOAD_TIMEOUT_S
            while not client.get("/readyz").json()["ready"]:
                if time.monotonic() > deadline_s:
                    raise TimeoutError(client.get("/readyz").text)
                time.sleep(0.05)
            yield client, client.get(f"/models/{MODEL}").json()["serving_version"]


def _answers(client: TestClient, version: int) -> Iterator[tuple[str, Any]]:
    """Yield each operation's name and its answer."""
    named = {"name": MODEL, "model": MODEL, "version": version}
    for path in (*NATIVE_GETS, *V2_GETS, f"{V1}", f"{V1}/metadata"):
        yield f"GET {path}", client.get(path.format(**named))
    content, text = CAT.read_bytes(), base64.b64encode(CAT.read_bytes()).decode()
    file = {"file": ("cat.png", content, "image/png")}
    asked = {"model": MODEL}
    yield f"POST {PREDICT}", client.post(PREDICT, files=file, params=asked)
    files = [("files", file["file"]), ("files", ("notes.txt", b"hello", "text/plain"))]
    yield f"POST {BATCH_PATH}", client.post(BATCH_PATH, files=files, params=asked)
    yield f"POST {COMPARE_PATH}", client.post(COMPARE_PATH, files=file)
    coarse = asked | {"patch": "16", "stride": "16"}
    yield f"POST {EXPLAIN_PATH}", client.post(EXPLAIN_PATH, files=file, params=coarse)
    inputs = [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [text]}]
    outputs = [{"name": "probabilities", "parameters": {"classification": 3}}]
    infer = {"id": "42", "inputs": inputs, "outputs": outputs}
    yield f"POST {V2}/infer", client.post(f"/v2/models/{MODEL}/infer", json=infer)
    instances = {"signature_name": "encoded_images", "instances": [{"b64": text}]}
    yield f"POST {V1}:predict", client.post(f"/v1/models/{MODEL}:predict", json=instances)
    listed = {"signature_name": "encoded_images", "examples": [{"image_bytes": {"b64": text}}]}
    yield f"POST {V1}:classify", client.post(f"/v1/models/{MODEL}:classify", json=listed)
    operator = {"Authorization": f"Bearer {SECRET.get_secret_value()}"}
    yield "POST /admin/reload", client.post("/admin/reload", headers=operator)
    yield "POST /v2/repository/index", client.post("/v2/repository/index", headers=operator)


def _faulty_requests(client: TestClient) -> Iterator[tuple[str, Any]]:
    """Yield each operation's name and its answers to invalid requests."""
    settings = _settings()
    for path in TAKE_AN_IMAGE:
        field = "files" if path == BATCH_PATH else "file"

        def ask(content: bytes, kind: str = "image/png", *, path: str = path, field: str = field, **query: str) -> Any:
            return client.post(path, files={field: ("cat.png", content, kind)}, params=query)

        name = f"POST {path}"
        if path == BATCH_PATH:
            yield name, client.post(path, files={"image": ("cat.png", b"hello", "image/png")})
            yield name, client.post(path, content=b"hello", headers={"Content-Type": "image/png"})
        else:
            yield name, ask(b"hello")
            yield name, ask(b"hello", "text/plain")
        yield name, ask(bytes(settings.max_body_bytes + 1))
        yield name, ask(CAT.read_bytes(), model="alexnet")
        yield (
            name,
            ask(CAT.read_bytes(), **({"patch": "4", "stride": "8"} if path == EXPLAIN_PATH else {"top_k": "11"})),
        )
    for path in ("/models/{name}", VERSION, PLOT):
        yield f"GET {path}", client.get(path.format(name="alexnet", version=1, plot="learning_curves"))
    for path in (VERSION, PLOT):
        yield f"GET {path}", client.get(path.format(name=MODEL, version=0, plot="learning_curves"))


def _rare_problems() -> Iterator[tuple[str, RequestError]]:
    """Yield each operation's name and its errors on timeouts and overload."""
    settings = _settings()
    admission = Admission(settings.max_pending_requests, settings.max_pending_bytes)
    for path in TAKE_AN_IMAGE:
        yield f"POST {path}", upload_timeout(settings.upload_timeout_s)
        yield f"POST {path}", Deadline.after(settings.request_timeout_s).passed()
        yield f"POST {path}", admission.overloaded(settings.max_pending_requests)


def _settings(**changed: Any) -> Settings:
    """Return the default settings without the environment and without logging."""
    return Settings.model_construct(**{"access_log_sample_rate": 0.0, **changed})
