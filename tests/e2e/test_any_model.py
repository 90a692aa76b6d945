"""An unedited server serves unknown models: with another name, other labels, another input size."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import expect

from cifar10_serving.__main__ import main
from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.artifacts.metadata import ModelMetadata
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from tests.conftest import MODELS, SAMPLES, golden_class
from tests.e2e.browser import chromium
from tests.e2e.server import free_port, running_server
from tests.other_models import publish_classifier, publish_renamed
from tests.version_copies import publish_relabelled

pytestmark = pytest.mark.slow

RENAMED, LEAVES, MANY, PETS = "my.own-cnn_2", "leaves", "many", "pets"
ALL = (RENAMED, LEAVES, MANY, PETS)
HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Server:
    """A running server, and what was published for it."""

    url: str
    grpc: str
    models: Path
    published: dict[str, ModelMetadata]


@dataclass(frozen=True)
class Asked:
    """An image of the size that a model takes, and what the model says of it."""

    metadata: ModelMetadata
    content: bytes
    pixels: NDArray[np.uint8]
    probabilities: NDArray[np.float32]

    @property
    def class_id(self) -> int:
        return int(self.probabilities.argmax())

    @property
    def label(self) -> str:
        return self.metadata.labels[self.class_id]

    @property
    def top(self) -> list[int]:
        return [int(place) for place in np.argsort(-self.probabilities, kind="stable")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    (models / "sequential").symlink_to(MODELS / "sequential")
    published = {
        RENAMED: publish_renamed(models, RENAMED, "My own CNN"),
        LEAVES: publish_classifier(models, LEAVES, ["healthy", "rust", "scab"], 64, 48),
        MANY: publish_classifier(models, MANY, [f"sort {number}" for number in range(400)], 96, 96),
        PETS: publish_classifier(models, PETS, ["dog", "cat"], 224, 224),
    }
    port = free_port()
    log = tmp_path_factory.mktemp("log") / "server.log"
    settings = {"CIFAR10_MODELS": str(models), "CIFAR10_GRPC_PORT": str(port), "CIFAR10_DEFAULT_MODEL": RENAMED}
    with running_server(log, **settings) as running:
        yield Server(running.url, f"127.0.0.1:{port}", models, published)


@pytest.fixture(params=ALL)
def asked(request: pytest.FixtureRequest, server: Server) -> Asked:
    metadata = server.published[request.param]
    pixels = np.random.default_rng(2).integers(0, 256, metadata.input_shape, np.uint8)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    model = OpenVinoRuntime().load(version_folder(server.models, metadata.name, 1))
    return Asked(metadata, stream.getvalue(), pixels, model.predict(pixels[np.newaxis])[0])


def post(url: str, **arguments: Any) -> Any:
    response = httpx.post(url, **arguments)
    assert response.status_code == 200, response.text
    return response.json()


def is_near(probabilities: Any, asked: Asked) -> bool:
    found = np.asarray(probabilities, np.float32).reshape(-1)
    return found.shape == asked.probabilities.shape and bool(np.abs(found - asked.probabilities).max() < 1e-4)


def test_models_are_listed_with_what_they_were_published_with(server: Server, asked: Asked) -> None:
    name = asked.metadata.name
    listed = {model["name"]: model for model in httpx.get(f"{server.url}/models").json()["models"]}
    assert set(listed) == {"sequential", *ALL}
    model = listed[name]
    assert (model["title"], model["default"], model["tutorial"]) == (asked.metadata.title, name == RENAMED, None)
    assert listed["sequential"]["tutorial"]["test_accuracy"] == 0.702
    assert model == httpx.get(f"{server.url}/models/{name}").json()
    (version,) = model["versions"]
    assert version["state"] == "ready"
    assert version["classes"] == asked.metadata.class_count
    assert version["input_shape"] == list(asked.pixels.shape)
    stored = httpx.get(f"{server.url}/models/{name}/versions/1").text
    assert ModelMetadata.model_validate_json(stored) == asked.metadata


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_predict(server: Server, asked: Asked, kind: str) -> None:
    stream = BytesIO()
    Image.fromarray(asked.pixels).save(stream, kind)
    files = {"file": ("a", stream.getvalue(), f"image/{kind.lower()}")}
    answer = post(f"{server.url}/predict", files=files, params={"model": asked.metadata.name})
    assert (answer["model"], answer["version"]) == (asked.metadata.name, 1)
    assert (answer["class_id"], answer["label"]) == (asked.class_id, asked.label)
    assert answer["confidence"] == pytest.approx(float(asked.probabilities.max()), abs=1e-4)
    assert [entry["class_id"] for entry in answer["top"]] == asked.top[:3]
    assert [entry["label"] for entry in answer["top"]] == [asked.metadata.labels[place] for place in asked.top[:3]]


def test_a_picture_of_another_size_is_made_to_fit(server: Server, asked: Asked) -> None:
    height, width, _ = asked.pixels.shape
    row = np.linspace(0, 255, width * 5).astype(np.uint8)
    stream = BytesIO()
    Image.fromarray(np.broadcast_to(row, (height * 7, width * 5))).save(stream, "PNG")
    files = {"file": ("a.png", stream.getvalue(), "image/png")}
    comparison = post(f"{server.url}/compare", files=files, params={"model": asked.metadata.name})
    seen = Image.open(BytesIO(base64.b64decode(comparison["model_input"].partition(",")[2])))
    assert seen.size == (width, height)
    assert np.asarray(seen)[height // 2, :, 0].tolist() == pytest.approx(np.linspace(0, 255, width).tolist(), abs=5)


def test_more_classes_than_there_are_is_an_error_in_words(server: Server, asked: Asked) -> None:
    classes = asked.metadata.class_count
    for path, field in (("predict", "file"), ("predict/batch", "files"), ("compare", "file")):
        files = {field: ("a.png", asked.content, "image/png")}
        for top_k, status in ((classes, 200), (max(3, classes) + 1, 422)):
            parameters: dict[str, Any] = {"model": asked.metadata.name, "top_k": top_k}
            response = httpx.post(f"{server.url}/{path}", files=files, params=parameters)
            assert response.status_code == status, response.text
            if status == 422:
                (invalid,) = response.json()["invalid_parameters"]
                assert invalid["expected"] == f"should be less than or equal to {classes}"


def test_batch(server: Server, asked: Asked) -> None:
    files = [("files", ("a.png", asked.content, "image/png")), ("files", ("b.png", b"no image", "image/png"))]
    answer = post(f"{server.url}/predict/batch", files=files, params={"model": asked.metadata.name})
    first, second = answer["results"]
    assert first["prediction"]["label"] == asked.label
    assert second["error"]["status"] == 400


def test_explain(server: Server, asked: Asked) -> None:
    height, width, _ = asked.pixels.shape
    files = {"file": ("a.png", asked.content, "image/png")}
    parameters: dict[str, Any] = {"model": asked.metadata.name, "class_id": asked.metadata.class_count - 1}
    answer = post(f"{server.url}/explain", files=files, params=parameters)
    assert answer["label"] == asked.metadata.labels[-1]
    assert (answer["patch_pixels"], answer["stride_pixels"]) == (min(height, width) // 4, min(height, width) // 8)
    assert (len(answer["importance"]), len(answer["importance"][0])) == (height, width)
    for wrong, told in (
        ({"class_id": asked.metadata.class_count}, f"should be less than {asked.metadata.class_count}"),
        ({"patch": min(height, width) + 1}, f"should be less than or equal to {min(height, width)}"),
        ({"patch": 1, "stride": 1}, "a larger stride: with patch = 1 this one needs"),
    ):
        response = httpx.post(f"{server.url}/explain", files=files, params=parameters | wrong)
        assert response.status_code == 422
        assert response.json()["invalid_parameters"][0]["expected"].startswith(told)


def test_open_inference_protocol(server: Server, asked: Asked) -> None:
    name, shape = asked.metadata.name, list(asked.pixels.shape)
    url = f"{server.url}/v2/models/{name}"
    described = httpx.get(url).json()
    assert described["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, *shape]}]
    assert described["outputs"][0]["shape"] == [-1, asked.metadata.class_count]
    assert httpx.get(f"{url}/config").json()["input"][0]["dims"] == shape
    images = {"name": "images", "datatype": "UINT8", "shape": [1, *shape], "data": asked.pixels.ravel().tolist()}
    (output,) = post(f"{url}/infer", json={"inputs": [images]})["outputs"]
    assert is_near(output["data"], asked)
    listing = [{"name": "probabilities", "parameters": {"classification": 2}}]
    (output,) = post(f"{url}/infer", json={"inputs": [images], "outputs": listing})["outputs"]
    assert [text.split(":")[1:] for text in output["data"]] == [
        [str(place), asked.metadata.labels[place]] for place in asked.top[:2]
    ]
    (output,) = post(f"{url}/infer", content=asked.pixels.tobytes() * 2, headers={HEADER_LENGTH: "0"})["outputs"]
    assert output["shape"] == [2, asked.metadata.class_count]
    assert is_near(output["data"][: asked.metadata.class_count], asked)


def test_pixels_of_another_size_are_rejected_with_the_right_one(server: Server, asked: Asked) -> None:
    url = f"{server.url}/v2/models/{asked.metadata.name}/infer"
    images = {"name": "images", "datatype": "UINT8", "shape": [1, 9, 9, 3], "data": [0] * 243}
    response = httpx.post(url, json={"inputs": [images]})
    assert response.status_code == 400
    wanted = ", ".join(map(str, asked.pixels.shape))
    assert "has the shape [1, 9, 9, 3]" in response.json()["error"]
    assert f"[n, {wanted}]" in response.json()["error"]
    response = httpx.post(url, content=b"x" * 100, headers={HEADER_LENGTH: "0"})
    assert response.status_code == 400
    assert f"a multiple of {asked.pixels.size:,}" in response.json()["error"]


def test_grpc(server: Server, asked: Asked) -> None:
    name, shape = asked.metadata.name, list(asked.pixels.shape)
    client = triton_grpc.InferenceServerClient(server.grpc)
    described = client.get_model_metadata(name, as_json=True)
    assert [int(size) for size in described["inputs"][0]["shape"]] == [-1, *shape]
    images = triton_grpc.InferInput("images", [1, *shape], "UINT8")
    images.set_data_from_numpy(asked.pixels[np.newaxis])
    answered = client.infer(name, [images])
    assert is_near(answered.as_numpy("probabilities"), asked)
    few = [triton_grpc.InferRequestedOutput("probabilities", class_count=3)]
    texts = client.infer(name, [images], outputs=few).as_numpy("probabilities").ravel().tolist()
    assert [text.decode().split(":")[2] for text in texts] == [asked.metadata.labels[place] for place in asked.top[:3]]


def test_tensorflow_serving(server: Server, asked: Asked) -> None:
    url = f"{server.url}/v1/models/{asked.metadata.name}"
    assert httpx.get(url).json()["model_version_status"][0]["state"] == "AVAILABLE"
    signatures = httpx.get(f"{url}/metadata").json()["metadata"]["signature_def"]["signature_def"]
    sizes = [dim["size"] for dim in signatures["serving_default"]["inputs"]["images"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", *map(str, asked.pixels.shape)]
    (row,) = post(f"{url}:predict", json={"instances": [asked.pixels.tolist()]})["predictions"]
    assert is_near(row, asked)
    (row,) = post(f"{url}:classify", json={"examples": [{"images": asked.pixels.ravel().tolist()}]})["result"]
    assert [label for label, _ in row] == asked.metadata.labels
    assert is_near([score for _, score in row], asked)
    response = httpx.post(f"{url}:predict", json={"instances": "x"})
    assert "x".join(map(str, asked.pixels.shape)) in response.json()["error"]


def test_comparison_is_of_models_that_share_labels(server: Server) -> None:
    files = {"file": ("a.png", SAMPLES[3].file.read_bytes(), "image/png")}
    comparison = post(f"{server.url}/compare", files=files, params={"top_k": 400})
    answers = {answer["model"]: answer["prediction"] for answer in comparison["answers"]}
    assert {name: len(prediction["top"]) for name, prediction in answers.items()} == {
        "sequential": 10,
        RENAMED: 10,
        LEAVES: 3,
        MANY: 400,
        PETS: 2,
    }
    assert answers[RENAMED] == answers["sequential"] | {"model": RENAMED, "version": 1}
    label = answers[RENAMED]["label"]
    agreeing = 3 if answers[PETS]["label"] == label else 2
    assert comparison["agreement"] == {"label": label, "models": agreeing, "of": 3}
    assert comparison["not_comparable"] == [{"model": name, "version": 1} for name in (LEAVES, MANY)]


def test_a_model_that_is_not_there_is_told_as_before(server: Server) -> None:
    files = {"file": ("a.png", SAMPLES[3].file.read_bytes(), "image/png")}
    for name in ("leavs", "no model at all", "x" * 200):
        response = httpx.post(f"{server.url}/predict", files=files, params={"model": name})
        assert response.status_code == 404
        problem = response.json()
        assert problem["type"].endswith(":not-found")
        assert set(problem["available"]) == {"sequential", *ALL}
        assert problem.get("remedy") == ("did you mean 'leaves'?" if name == "leavs" else None)


def test_command_line(
    server: Server, asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR10_URL", server.url)
    model = ["--model", asked.metadata.name]
    file = tmp_path / asked.label / "a.png"
    file.parent.mkdir()
    file.write_bytes(asked.content)

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main(arguments) == 0
        return capsys.readouterr().out

    assert asked.label in run("predict", str(file), *model)
    assert asked.metadata.title in run("models")
    *_, evaluation = run("predict", str(tmp_path), *model, "--labels", "from-folder", "--json").splitlines()
    assert json.loads(evaluation)["evaluation"]["correct"] == 1
    table = run("predict", str(tmp_path), *model, "--labels", "from-folder")
    assert "accuracy 1.0000: 1 of 1 images" in table
    assert f"images of {asked.metadata.measured_data.name}'s test set" in table
    label = asked.metadata.labels[-1]
    assert f" {label}, " in run("explain", str(file), *model, "--class", label)
    assert asked.label in run("compare", str(file), "--model", asked.metadata.name)
    assert "answers/s" in run("bench", "--duration", "0.2", *model)
    saved = tmp_path / "answers.csv"
    first = run("predict", str(file), *model, "--csv", "--resume", str(saved))
    assert run("predict", str(file), *model, "--csv", "--resume", str(saved)) == first.splitlines()[0] + "\n"
    wrong = tmp_path / "no class"
    file.parent.rename(wrong)
    assert main(["predict", str(wrong), *model, "--labels", "from-folder"]) == 1
    assert f"folders named {asked.metadata.labels[0]}" in capsys.readouterr().err
    assert main(["explain", str(wrong / "a.png"), *model, "--class", "zebra"]) == 1
    assert f"{asked.metadata.name} has no class 'zebra'" in capsys.readouterr().err


def test_a_version_that_was_not_measured_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_relabelled(tmp_path / "models", "oaks", [f"oak {number}" for number in range(10)], accuracy=None)
    with running_server(tmp_path / "log", CIFAR10_MODELS=str(tmp_path / "models")) as running:
        (version,) = httpx.get(f"{running.url}/models/oaks").json()["versions"]
        assert (version["state"], version["test_accuracy"], version["test_images"]) == ("ready", None, None)
        monkeypatch.setenv("CIFAR10_URL", running.url)
        file = tmp_path / "oak 1" / "a.png"
        file.parent.mkdir()
        file.write_bytes(SAMPLES[0].file.read_bytes())
        evaluation = ["predict", str(tmp_path / "oak 1"), "--labels", "from-folder"]
        for command in (["models"], ["model", "oaks"], ["model", "oaks", "--version", "1"], evaluation):
            capsys.readouterr()
            assert main(command) == 0
            assert "not measured" in capsys.readouterr().out, command
        with chromium() as browser:
            page = browser.new_page()
            page.goto(running.url)
            expect(page.locator(".facts")).to_contain_text("not measured", timeout=60_000)
            expect(page.locator("#card")).to_contain_text("Its accuracy was not measured.")
            expect(page.locator("#samples")).to_be_hidden()


@pytest.mark.browser
def test_page(server: Server) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(server.url)
        expect(page.locator(".model")).to_have_count(5, timeout=60_000)
        expect(page.locator("#answer-body .by")).to_have_text("The model knows these ten classes.")
        expect(page.locator("#takes")).to_have_text("ten classes at 32 pixels")
        page.set_input_files("#files", SAMPLES[3].file)
        label = page.locator("#answer-body .headline .label")
        expect(label).to_have_text("cat" if golden_class("sequential", SAMPLES[3]) == 3 else "")
        expect(page.locator("#answer-body .by")).to_have_text("My own CNN, version 1")
        page.check(f"#model-{LEAVES}")
        expect(page.locator("#answer-body .by")).to_have_text("leaves, made up, version 1")
        expect(page.locator(".bars .label")).to_have_text(["healthy", "rust", "scab"])
        expect(page.locator("#dataset")).to_have_text("Leaves")
        expect(page.locator("#samples")).to_be_hidden()
        page.check("#explain-on")
        expect(page.locator("#seen canvas")).to_have_attribute("width", "48")
        expect(page.locator("#explain-class option")).to_have_text(["predicted class", "healthy", "rust", "scab"])
        page.check(f"#model-{MANY}")
        expect(page.locator(".bars .value")).to_have_count(10)
        expect(page.locator(".classes tbody tr")).to_have_count(20)
        results = Axe().run(page)  # before there are hundreds of rows, each of which takes its time
        assert results.violations_count == 0, results.generate_report()
        page.click("text=Show more of the 400 classes")
        expect(page.locator(".bars .value")).to_have_count(400)
        page.click("text=Show all 400 classes")
        expect(page.locator(".classes tbody tr")).to_have_count(400)
        expect(page.locator("#seen canvas")).to_have_attribute("width", "96")
        page.check("#mode [value=all]")
        expect(page.locator(".cards > li")).to_have_count(5)
        expect(page.locator(".cards > li.apart")).to_have_count(2)
        expect(page.locator("#answer-body")).to_contain_text("2 have other labels and can't be compared.")
        titles = page.locator("#models h3").all_inner_texts()
        assert sorted(titles) == [
            "10 classes: airplane, automobile, bird, …",
            "2 classes: dog, cat",
            "3 classes: healthy, rust, scab",
            "400 classes: sort 0, sort 1, sort 2, …",
        ]
        results = Axe().run(page, context="#answer-body")
        assert results.violations_count == 0, results.generate_report()
        assert not complaints
