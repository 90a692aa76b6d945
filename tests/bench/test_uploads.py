import base64
import io
import json

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from bench.uploads import PLACEHOLDER, BodyKind, Upload, body, golden_images, new_mark, varied_uploads, with_mark
from cifar10_serving.artifacts.layout import version_folder
from tests.conftest import MODELS, ROOT, newest_version

IMAGES = ROOT / "tests/images"
VERSION = version_folder(MODELS, "sequential", newest_version("sequential"))


def test_uploads_are_varied_png_and_jpeg_of_one_size() -> None:
    uploads = varied_uploads(IMAGES, [VERSION])
    assert len({upload.content for upload in uploads}) == len(uploads) >= 64
    for number, upload in enumerate(uploads):
        with Image.open(io.BytesIO(upload.content)) as image:
            assert image.size == (32, 32)
            assert Image.MIME[str(image.format)] == upload.media_type
        assert upload.media_type == ("image/png", "image/jpeg")[number % 2]


def test_golden_images_carry_what_the_version_answered() -> None:
    found = golden_images(IMAGES, VERSION)
    assert len(found) == 10
    for golden in found:
        assert golden.probabilities.sum() == pytest.approx(1, abs=1e-4)


def test_the_form_is_one_that_our_server_reads(client: TestClient) -> None:
    golden = golden_images(IMAGES, VERSION)[0]
    mark = new_mark()
    response = client.post(
        "/predict?model=sequential",
        content=with_mark(body(golden.upload, BodyKind.FORM), mark),
        headers={"Content-Type": with_mark(BodyKind.FORM.value.encode(), mark).decode()},
    )
    assert response.json()["class_id"] == int(golden.probabilities.argmax())
    assert response.json()["confidence"] == pytest.approx(float(golden.probabilities.max()), abs=1e-3)


def test_v2_json_carries_the_image_in_base64() -> None:
    sent = json.loads(body(Upload(b"an image", "image/png"), BodyKind.V2_JSON))
    [image] = sent["inputs"]
    assert (image["shape"], image["datatype"]) == ([1], "BYTES")
    assert base64.b64decode(image["data"][0]) == b"an image"


def test_v2_binary_carries_the_image_after_its_length() -> None:
    sent = body(Upload(b"an image", "image/png"), BodyKind.V2_BINARY)
    length = int(BodyKind.V2_BINARY.headers["Inference-Header-Content-Length"])
    head, element = json.loads(sent[:length]), sent[length:]
    [image] = head["inputs"]
    assert (image["shape"], image["datatype"]) == ([1, 1], "BYTES")
    assert image["parameters"]["binary_data_size"] == len(element) == 12
    assert element == (8).to_bytes(4, "little") + b"an image"


def test_marks_keep_the_length_and_leave_the_image_alone() -> None:
    upload = varied_uploads(IMAGES, [VERSION])[0]
    forms = [with_mark(body(upload, BodyKind.FORM), new_mark()) for _ in range(100)]
    assert len(set(forms)) == 100
    assert {len(form) for form in forms} == {len(body(upload, BodyKind.FORM))}
    for form in forms:
        assert upload.content in form
        assert PLACEHOLDER.encode() not in form
