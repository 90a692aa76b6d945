import gzip
import json
import os
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from cifar10_serving.artifacts.layout import published_versions, read_metadata, version_folder
from cifar10_serving.artifacts.metadata import ModelMetadata
from cifar10_serving.schemas import ModelList, ModelStatus, Prediction, Problem
from service.settings import Settings
from tests.conftest import MODELS, PUBLISHED, SAMPLES, SampleImage, golden_class, newest_version, ready_client
from tests.version_copies import flip_a_bit
from training.cifar10 import CLASS_NAMES

CAT = SAMPLES[3]
PNG = {"Content-Type": "image/png"}


def problem_of(response: httpx.Response, status: int) -> Problem:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in response.text
    problem = Problem.model_validate_json(response.content)
    assert problem.status == status
    return problem


def upload(client: TestClient, content: bytes, kind: str = "image/png", **parameters: Any) -> httpx.Response:
    response: httpx.Response = client.post("/predict", files={"file": ("picture", content, kind)}, params=parameters)
    return response


@pytest.mark.parametrize("model", PUBLISHED)
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.file.stem)
def test_each_model_gives_its_golden_class(client: TestClient, model: str, sample: SampleImage) -> None:
    prediction = Prediction.model_validate_json(upload(client, sample.file.read_bytes(), model=model).content)
    assert prediction.class_id == golden_class(model, sample)
    assert (prediction.model, prediction.version) == (model, newest_version(model))
    assert prediction.label == CLASS_NAMES[prediction.class_id] == prediction.top[0].label


def test_form_and_raw_body_give_the_same_answer(client: TestClient) -> None:
    content = CAT.file.read_bytes()
    by_form = upload(client, content).json()
    assert client.post("/predict", content=content, headers=PNG).json() == by_form
    assert (
        client.post("/predict", content=content, headers={"Content-Type": "application/octet-stream"}).json() == by_form
    )
    chunked = client.post("/predict", content=iter([content[:100], content[100:]]), headers=PNG)
    assert chunked.json() == by_form


def test_other_fields_of_the_form_are_passed_over(client: TestClient) -> None:
    files = {"note": ("note.txt", b"my cat", "text/plain"), "file": ("cat.png", CAT.file.read_bytes(), "image/png")}
    assert client.post("/predict", files=files).json()["label"] == upload(client, CAT.file.read_bytes()).json()["label"]


@pytest.mark.parametrize("top_k", [1, 2, 10])
def test_top_k_lists_as_many_classes_best_first(client: TestClient, top_k: int) -> None:
    top = upload(client, CAT.file.read_bytes(), top_k=top_k).json()["top"]
    probabilities = [entry["probability"] for entry in top]
    assert len(top) == top_k
    assert probabilities == sorted(probabilities, reverse=True)
    assert top_k < 10 or sum(probabilities) == pytest.approx(1, abs=1e-5)


def test_phone_photo_is_answered(client: TestClient) -> None:
    stream = BytesIO()
    Image.fromarray(CAT.pixels).resize((4000, 3000)).save(stream, "JPEG", quality=80)
    assert upload(client, stream.getvalue(), "image/jpeg").status_code == 200


@pytest.mark.parametrize(
    ("content", "kind", "status", "words"),
    [
        (b"", "image/png", 400, "0 bytes"),
        (b"hello, I am text\n" * 100, "image/png", 400, "not a supported image"),
        (b"hello", "text/plain", 415, "'text/plain' is not supported"),
        (CAT.file.read_bytes()[:1200], "image/png", 400, "truncated"),
        (b"x" * 20_971_521, "image/png", 413, "at most 20,971,520 bytes"),
    ],
    ids=["empty", "text called PNG", "text", "truncated", "too many bytes"],
)
def test_bad_upload_is_rejected_in_words(
    client: TestClient, content: bytes, kind: str, status: int, words: str
) -> None:
    by_form = problem_of(upload(client, content, kind), status)
    by_body = problem_of(client.post("/predict", content=content, headers={"Content-Type": kind}), status)
    assert words in f"{by_form.detail} {by_form.expected}"
    assert by_form.type == by_body.type


def test_too_many_pixels_in_a_few_kilobytes(client: TestClient) -> None:
    stream = BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")
    problem = problem_of(upload(client, stream.getvalue()), 413)
    assert "20,000 x 20,000 = 400,000,000 pixels" in problem.detail


def test_streamed_body_is_rejected_at_the_limit_not_at_its_end(client: TestClient) -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        while sent < 40_000_000:
            sent += 1_000_000
            yield b"x" * 1_000_000

    problem = problem_of(client.post("/predict", content=endless(), headers=PNG), 413)
    assert "more than 20,971,520 bytes" in problem.detail


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "multipart/form-data; boundary=x", 400),
        (b"--x\r\ngarbage", "multipart/form-data; boundary=x", 400),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 400),
        (b"--x", "multipart/form-data", 400),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b"{}", "application/json", 415),
        (b"GIF89a", "image/svg+xml", 415),
    ],
)
def test_broken_forms_and_foreign_types_are_rejected(
    client: TestClient, body: bytes, content_type: str, status: int
) -> None:
    problem = problem_of(client.post("/predict", content=body, headers={"Content-Type": content_type}), status)
    assert "curl -F file=@cat.png" in f"{problem.expected} {problem.remedy}"


def test_form_without_the_field_names_what_it_has(client: TestClient) -> None:
    problem = problem_of(client.post("/predict", files={"image": ("cat.png", CAT.file.read_bytes())}), 400)
    assert "no field 'file': the form has 'image'" in problem.detail


def test_form_with_two_images_is_rejected(client: TestClient) -> None:
    files = [("file", ("one.png", CAT.file.read_bytes())), ("file", ("two.png", CAT.file.read_bytes()))]
    assert "2 fields 'file'" in problem_of(client.post("/predict", files=files), 400).detail


def test_compressed_body_is_rejected_by_its_encoding(client: TestClient) -> None:
    headers = PNG | {"Content-Encoding": "gzip"}
    problem = problem_of(client.post("/predict", content=gzip.compress(CAT.file.read_bytes()), headers=headers), 415)
    assert "'gzip'" in problem.detail


def test_misspelt_parameter_is_rejected(client: TestClient) -> None:
    problem = problem_of(upload(client, CAT.file.read_bytes(), modle="functional"), 422)
    assert problem.invalid_parameters is not None
    assert problem.invalid_parameters[0].name == "modle"


@pytest.mark.parametrize("path", ["/readyz", "/models", "/models/sequential/versions/1", "/docs"])
def test_head_is_answered_as_get_is(client: TestClient, path: str) -> None:
    assert client.head(path).status_code == 200
    assert client.head("/nope").status_code == 404


def test_unknown_model_names_what_there_is(client: TestClient) -> None:
    problem = problem_of(upload(client, CAT.file.read_bytes(), model="alexnet"), 404)
    assert set(PUBLISHED) <= set(problem.available or [])
    assert problem_of(client.get("/models/alexnet"), 404).available == problem.available


def test_unknown_version_names_what_there_is(client: TestClient) -> None:
    problem = problem_of(upload(client, CAT.file.read_bytes(), model="sequential", version=999), 404)
    assert problem.available == [str(newest_version("sequential"))]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("version", "0"),
        ("version", "-1"),
        ("version", "1x"),
        ("version", "-canary"),
        ("version", "1" * 5000),
        ("top_k", "0"),
        ("top_k", "11"),
    ],
)
def test_bad_parameter_is_named_with_what_is_legal(client: TestClient, parameter: str, value: str) -> None:
    problem = problem_of(upload(client, CAT.file.read_bytes(), **{parameter: value}), 422)
    assert problem.invalid_parameters is not None
    assert problem.invalid_parameters[0].name == parameter
    assert problem.invalid_parameters[0].value == value[:100]


def test_models_are_listed_with_their_stored_accuracy(client: TestClient) -> None:
    listed = ModelList.model_validate_json(client.get("/models").content)
    assert [model.name for model in listed.models] == list(PUBLISHED)
    assert [model.name for model in listed.models if model.default] == [listed.default_model]
    for model in listed.models:
        stored = read_metadata(version_folder(MODELS, model.name, model.versions[0].version))
        evaluation = stored.evaluation("test", "float32", "openvino")
        assert evaluation is not None
        assert model.versions[0].test_accuracy == evaluation.accuracy
        assert ModelStatus.model_validate_json(client.get(f"/models/{model.name}").content) == model


@pytest.mark.parametrize("name", PUBLISHED)
def test_metadata_is_served_as_it_is_stored(client: TestClient, name: str) -> None:
    newest = published_versions(MODELS, name)[-1]
    response = client.get(f"/models/{name}/versions/{newest}")
    assert ModelMetadata.model_validate_json(response.content) == read_metadata(version_folder(MODELS, name, newest))


@pytest.mark.parametrize("plot", ["learning_curves", "confusion_matrix.svg", "sample_predictions"])
def test_plots_are_served_as_svg_that_can_run_nothing(client: TestClient, plot: str) -> None:
    response = client.get(f"/models/sequential/versions/1/plots/{plot}")
    assert response.headers["content-type"] == "image/svg+xml"
    policy = response.headers["content-security-policy"].split("; ")
    assert {"sandbox", "default-src 'none'"} <= set(policy)
    assert not any(entry.startswith("script-src") for entry in policy)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert b"<svg" in response.content


def changed_metadata(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((folder / "metadata.json").read_text())
    change(content)
    (folder / "metadata.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../../../secret", "plots/../../../../secret", "saved_model.pb", "metadata.json",
     "plots/a\\..\\b.svg", "plots/a.svg\0.svg", "C:/secret.svg", "plots//a.svg", "plots/.. /a.svg", "plots/a.html", ""],
)  # fmt: skip
def test_metadata_names_no_file_but_a_plot_of_the_version(one_model: Path, name: str) -> None:
    (one_model.parent / "secret").write_text("secret")

    def change(content: dict[str, Any]) -> None:
        content["plots"]["odd"] = name
        content["files"][name] = {"sha256": sha256(b"secret").hexdigest(), "size_bytes": 6}

    changed_metadata(one_model / "sequential/1", change)
    with ready_client(Settings(models=one_model)) as client:
        assert problem_of(client.get("/models/sequential/versions/1/plots/odd"), 503).detail
        (version,) = client.get("/models/sequential").json()["versions"]
        assert version["state"] == "failed"
        assert "plots.odd" in version["reason"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../secret"])
@pytest.mark.parametrize("linked", ["plots/confusion_matrix.svg", "plots"])
def test_link_out_of_the_version_is_no_plot(one_model: Path, target: str, linked: str) -> None:
    (one_model.parent / "secret").write_text("secret")
    folder = one_model / "sequential/1"
    (folder / linked).rename(one_model.parent / "away")
    (folder / linked).symlink_to(target)
    with ready_client(Settings(models=one_model)) as client:
        assert (
            "its plots are not served"
            in problem_of(client.get("/models/sequential/versions/1/plots/confusion_matrix"), 503).detail
        )


def test_version_that_failed_shows_no_plot(one_model: Path) -> None:
    flip_a_bit(one_model / "sequential/1/saved_model.pb")
    with ready_client(Settings(models=one_model)) as client:
        problem = problem_of(client.get("/models/sequential/versions/1/plots/learning_curves"), 503)
        assert "is not what was published" in problem.detail
        assert client.get("/models/sequential/versions/1").status_code == 200


def becomes_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def becomes_device(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    "change", [Path.unlink, becomes_fifo, becomes_device, lambda file: os.truncate(file, 2**40), flip_a_bit]
)
def test_plot_is_shown_only_as_it_was_published(one_model: Path, change: Callable[[Path], None]) -> None:
    plot = one_model / "sequential/1/plots/learning_curves.svg"
    with ready_client(Settings(models=one_model, poll_interval_s=0)) as client:
        address = "/models/sequential/versions/1/plots/learning_curves"
        assert client.get(address).status_code == 200
        change(plot)
        problem_of(client.get(address), 404)


@pytest.mark.parametrize("plot", ["nope", "..%2Fmetadata.json", "%2e%2e"])
def test_there_is_no_other_plot(client: TestClient, plot: str) -> None:
    assert client.get(f"/models/sequential/versions/1/plots/{plot}").status_code == 404


def test_unknown_path_is_a_problem_too(client: TestClient) -> None:
    problem_of(client.get("/nope"), 404)


@pytest.mark.parametrize(("method", "path", "allowed"), [("GET", "/predict", "POST"), ("POST", "/models", "GET")])
def test_problem_of_another_method_names_the_allowed_one(
    client: TestClient, method: str, path: str, allowed: str
) -> None:
    response = client.request(method, path)
    assert problem_of(response, 405).expected == f"the method {allowed}"
    assert response.headers["allow"] == allowed
