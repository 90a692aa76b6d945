"""The Open Inference Protocol's contract (`tests/contracts/open_inference.json`) against a real server.

Generated requests get what the contract says and never a 5xx: bodies from the contract alone, bodies that are narrowed
to what the model takes so that some of them are answered, and bodies that are any JSON at all.
"""

import math
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx2 as httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SAMPLES, newest_version
from tests.contracts.contract import SCALARS, TEXT, Contract
from tests.e2e.server import running_server
from tests.service.api.kserve.requests import GOLDEN, MODEL
from tests.version_copies import publish_copy

pytestmark = pytest.mark.slow
CONTRACT = Contract("open_inference.json")
OPERATIONS = CONTRACT.operations()
INFER = [(method, path) for method, path in OPERATIONS if method == "POST"]
generated = settings(max_examples=50, deadline=None, database=None, derandomize=True)

PATH_PARTS = TEXT.filter(lambda text: text and "/" not in text)
MODELS = st.sampled_from([MODEL, MODEL.upper(), "alexnet"]) | PATH_PARTS
VERSIONS = st.sampled_from(["1", "2", "01", "-1", "stable", "9" * 40]) | PATH_PARTS
ANY_JSON = st.recursive(
    st.none() | st.one_of(list(SCALARS.values())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=20,
)
PARAMETERS = ("classification", "binary_data", "binary_data_size", "binary_data_output", "timeout", "sequence_id")
PARAMETER_VALUES = st.sampled_from([True, False, 0, 3, 11, -1, 1.5, "1", 2**63, 10_000_000])
NEAR_PARAMETERS = st.dictionaries(st.sampled_from(PARAMETERS), PARAMETER_VALUES, max_size=2).filter(
    lambda parameters: parameters.get("timeout") not in {3, 11}  # microseconds: 504 would be right
)


@st.composite
def near_requests(draw: st.DrawFn) -> dict[str, Any]:
    """A request that the model could answer, with some parts of it drawn from the contract instead."""
    rows = draw(st.integers(0, 3))
    if draw(st.booleans()):
        images = GOLDEN.images[:rows]
        data = images.tolist() if draw(st.booleans()) else images.ravel().tolist()
        tensor = {"name": "images", "datatype": "UINT8", "shape": [rows, 32, 32, 3], "data": data}
    else:
        files = [b64encode(sample.file.read_bytes()).decode() for sample in SAMPLES[:rows]]
        tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [rows], "data": files}
    output = {"name": draw(st.sampled_from(["probabilities"] * 9 + ["logits"])), "parameters": draw(NEAR_PARAMETERS)}
    request: dict[str, Any] = {"inputs": [tensor]}
    request |= draw(st.fixed_dictionaries({}, optional={"id": TEXT, "outputs": st.just([output])}))
    if draw(st.booleans()):
        request["parameters"] = draw(NEAR_PARAMETERS)
    foreign = draw(CONTRACT.values({"$ref": "#/components/schemas/tensor"}))
    spoiled = draw(st.sampled_from([*[()] * 4, ("shape",), ("data",), ("datatype",), ("name", "parameters")]))
    tensor |= {key: foreign[key] for key in spoiled if key in foreign}
    return request


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("models")
    (folder / MODEL).mkdir()
    publish_copy(folder, 2, source=newest_version(MODEL))
    log = tmp_path_factory.mktemp("log") / "server.log"
    with running_server(log, CIFAR10_MODELS=str(folder)) as running, httpx.Client(base_url=running.url) as client:
        yield client
        assert "Traceback" not in log.read_text()


def ask(server: httpx.Client, method: str, path: str, model: str, version: str, *, body: object = None) -> Any:
    """The answer's JSON, once it is what the contract says; None where it is an error."""
    names = {"model": quote(model, safe=""), "version": quote(version, safe="")}
    # A dot alone would make another path of it before it is sent.
    url = path.format(**{name: text.replace(".", "%2E") for name, text in names.items()})
    response = server.request(method, url, json=body) if method == "POST" else server.request(method, url)
    assert response.status_code < 500, response.text
    if "binary_data" in str(body) and response.headers["content-type"] == "application/octet-stream":
        return None  # the binary extension's form, which the contract doesn't know
    assert response.headers["content-type"] == "application/json"
    CONTRACT.check(method, path, response.status_code, response.json())
    return response.json() if response.status_code == 200 else None


@pytest.mark.parametrize(("method", "path"), [operation for operation in OPERATIONS if operation not in INFER])
def test_questions_are_answered_by_the_contract(server: httpx.Client, method: str, path: str) -> None:
    assert ask(server, method, path, MODEL, "2") is not None

    @generated
    @given(MODELS, VERSIONS)
    def check(model: str, version: str) -> None:
        ask(server, method, path, model, version)

    if "{" in path:
        check()


@pytest.mark.parametrize(("method", "path"), INFER)
def test_requests_of_the_contract_get_answers_of_the_contract(server: httpx.Client, method: str, path: str) -> None:
    @generated
    @given(CONTRACT.bodies(method, path), MODELS, VERSIONS)
    def check(body: Any, model: str, version: str) -> None:
        ask(server, method, path, model, version, body=body)

    check()


def test_requests_near_those_that_the_model_takes_get_answers_of_the_contract(server: httpx.Client) -> None:
    answered = 0

    @generated
    @given(near_requests())
    def check(body: dict[str, Any]) -> None:
        nonlocal answered
        answer = ask(server, *INFER[0], MODEL, "2", body=body)
        if answer is not None:
            answered += 1
            (output,) = answer["outputs"]
            assert answer.get("id") == body.get("id")
            assert output["shape"][0] == body["inputs"][0]["shape"][0]
            assert math.prod(output["shape"]) == len(output["data"])

    check()
    assert answered >= 10


def test_any_json_is_rejected_by_the_contract(server: httpx.Client) -> None:
    @generated
    @given(ANY_JSON)
    def check(body: object) -> None:
        assert ask(server, *INFER[0], MODEL, "2", body=body) is None

    check()
