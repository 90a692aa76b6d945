"""Every call, by both clients, against the real server."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from cifar10_serving import client
from cifar10_serving.client import AsyncClient, Client
from service.app import create_app
from service.settings import Settings
from tests.cifar10_serving.client.asgi_lifespan import started
from tests.cifar10_serving.client.asking import Ask, both
from tests.cifar10_serving.client.scripted_server import ANSWERED, problem, scripted_server
from tests.conftest import SAMPLES, SMALL_MODELS, golden_class, newest_version
from tests.e2e.server import Server
from tests.fakes import FakeRuntime
from tests.waiting import wait_until
from training.cifar10 import SMALL_CNNS

CAT = SAMPLES[3]
NEWEST = newest_version("sequential")
"""Of the other small CNNs, too."""


@both
def test_predict_answers_from_the_model_and_version_that_are_asked_for(server: Server, ask: Ask) -> None:
    prediction = ask(server.url, "predict", CAT.file, model="functional", version=NEWEST, top_k=5)
    assert (prediction.model, prediction.version) == ("functional", NEWEST)
    assert prediction.class_id == golden_class("functional", CAT)
    assert len(prediction.top) == 5


@both
def test_models_model_metadata_and_readiness_agree(server: Server, ask: Ask) -> None:
    listed = ask(server.url, "models")
    assert {model.name for model in listed.models} == set(SMALL_CNNS)
    one = ask(server.url, "model", "sequential")
    assert one == next(model for model in listed.models if model.name == "sequential")
    metadata = ask(server.url, "metadata", "sequential", one.serving_version)
    serving = next(version for version in one.versions if version.version == one.serving_version)
    assert metadata.evaluation("test", serving.precision, listed.runtime).accuracy == serving.test_accuracy
    assert ask(server.url, "ready").ready


@both
def test_batch_gives_each_file_its_own_answer_in_order(server: Server, ask: Ask) -> None:
    images = [*(sample.file for sample in SAMPLES), b"GIF8 nonsense"]
    answered = ask(server.url, "predict_batch", images, model="sequential", version=NEWEST, top_k=1)
    assert (answered.model, answered.version) == ("sequential", NEWEST)
    *good, bad = answered.results
    assert [result.prediction.class_id for result in good] == [golden_class("sequential", s) for s in SAMPLES]
    assert [result.name for result in good] == [sample.file.name for sample in SAMPLES]
    assert bad.prediction is None
    assert bad.error.type.endswith(client.UndecodableError.kind)


@both
def test_batch_takes_files_of_any_name(server: Server, ask: Ask, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("b\udcff.png", 'quo"te.png', "zwei\nZeilen.png", "Käse.png")]
    for file in files:
        file.write_bytes(CAT.file.read_bytes())
    answered = ask(server.url, "predict_batch", files, model="sequential")
    assert [result.prediction.label for result in answered.results] == ["cat"] * 4
    assert answered.results[3].name == "Käse.png"


@both
def test_compare_explain_and_stats_are_those_of_the_service(server: Server, ask: Ask) -> None:
    compared = ask(server.url, "compare", CAT.file, models=[f"functional/{NEWEST}", "sequential"], top_k=1)
    assert [(answer.model, len(answer.prediction.top)) for answer in compared.answers] == [
        ("functional", 1),
        ("sequential", 1),
    ]
    explained = ask(server.url, "explain", CAT.file, model="sequential", class_id=5, patch=16, stride=16)
    assert (explained.label, explained.patch_pixels, explained.images) == ("dog", 16, 5)
    assert ask(server.url, "stats").requests_total > 0


REJECTED: list[tuple[str, list[Any], dict[str, Any], type[Exception], str]] = [
    ("predict", [CAT.file], {"model": "vgg61"}, client.UnknownModelError, "vgg61.*Expected: one of.*sequential"),
    ("predict", [CAT.file], {"version": 99}, client.UnknownModelError, "99"),
    ("predict", [CAT.file], {"top_k": 11}, client.InvalidParameterError, "top_k = 11"),
    ("predict", [b"GIF89a nonsense"], {}, client.UndecodableError, "What to do"),
    ("predict", [b""], {}, client.ImageSourceError, "the image is empty: 0 bytes"),
    ("predict", [b"x" * 25_000_000], {}, client.TooLargeError, "25,000,000 bytes"),
    ("predict_batch", [[]], {}, client.ImageSourceError, "no images"),
    ("predict_batch", [[b"GIF8 nonsense"] * 513], {}, client.TooLargeError, "512"),
    ("compare", [CAT.file], {"models": ["vgg61"]}, client.UnknownModelError, "vgg61"),
    ("explain", [CAT.file], {"patch": 33}, client.InvalidParameterError, "patch = 33"),
    ("model", ["../livez"], {}, client.UnknownRouteError, "/models/"),
    ("metadata", ["sequential", 0], {}, client.InvalidParameterError, "version = 0"),
]


@both
@pytest.mark.parametrize("rejected", REJECTED, ids=lambda rejected: rejected[3].__name__)
def test_rejection_is_raised_with_the_words_of_the_service(server: Server, ask: Ask, rejected: Any) -> None:
    call, arguments, named, error, words = rejected
    with pytest.raises(error, match=words):
        ask(server.url, call, *arguments, **named)


@both
def test_address_with_a_path_too_many_is_told(server: Server, ask: Ask) -> None:
    with pytest.raises(client.UnknownRouteError, match="/api/models"):
        ask(f"{server.url}/api/", "models")


@both
def test_photo_of_12_megapixels_is_answered(server: Server, ask: Ask) -> None:
    photo = BytesIO()
    with Image.open(CAT.file) as picture:
        picture.resize((4000, 3000)).save(photo, "JPEG", quality=90)
    assert ask(server.url, "predict", photo.getvalue(), model="sequential").model == "sequential"


@both
def test_token_and_headers_go_with_every_request(ask: Ask) -> None:
    with scripted_server(ANSWERED) as scripted:
        ask(scripted.url, "predict", b"x", options={"token": "s3cret", "headers": {"X-Request-ID": "mine"}})
    head = scripted.requests[0].partition(b"\r\n\r\n")[0].lower()
    assert b"\r\nauthorization: bearer s3cret\r\n" in head
    assert b"\r\nx-request-id: mine" in head
    assert b"\r\nuser-agent: cifar10-client/" in head


@both
def test_error_names_the_request_as_the_services_log_does(ask: Ask) -> None:
    answer = problem(500, "internal-error", X_Request_ID="theirs")
    with scripted_server(answer) as scripted, pytest.raises(client.InternalError) as raised:
        ask(scripted.url, "models")
    assert raised.value.request_id == "theirs"


def test_connections_are_kept_and_shared(server: Server) -> None:
    with Client(server.url, headers={"X-Request-ID": "one-of-a-client"}) as fresh:
        for _ in range(3):
            fresh.predict(CAT.file)
        fresh.models()

    def connections() -> list[str]:
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if "one-of-a-client" in line]
        return [line["client"] for line in lines]

    wait_until(lambda: len(connections()) == 4)
    assert len(set(connections())) == 1


@pytest.mark.anyio
async def test_the_application_itself_can_be_asked_over_httpxs_asgi_transport() -> None:
    app = create_app(Settings(models=SMALL_MODELS, poll_interval_s=0), runtime=FakeRuntime())
    async with (
        started(app),
        AsyncClient("http://service", transport=httpx.ASGITransport(app)) as asking,
    ):
        readiness = await asking.wait_until_ready(timeout_s=60)
        answered = await asking.predict(CAT.file, model="sequential", version=NEWEST)
    assert readiness.ready
    assert answered.label == "cat"
