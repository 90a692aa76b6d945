import re

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.runtimes.golden import read_golden
from scripts.write_page_samples import POSITIONS
from service.api.page import WEB, read_files
from tests.conftest import MODELS

MAX_PAGE_BYTES = 117_000


def test_page_allows_nothing_from_outside_and_nothing_inline(client: TestClient) -> None:
    response = client.get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=|https?://", response.text)


def test_page_is_asked_again_and_its_files_are_kept_for_good(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["cache-control"] == "no-cache"
    assert client.get("/", headers={"If-None-Match": page.headers["etag"]}).status_code == 304
    files = set(re.findall(r'(?:src|href)="(web/[^"]+)"', page.text))
    assert len(files) > 10
    for name in files:
        file = client.get(f"/{name}")
        assert file.status_code == 200, name
        assert "immutable" in file.headers["cache-control"]
        assert file.headers["x-content-type-options"] == "nosniff"
    assert client.head("/").headers["content-length"] == page.headers["content-length"]


def test_every_module_that_is_imported_is_served(client: TestClient) -> None:
    folder = re.findall(r'src="(web/\w+)/main.js"', client.get("/").text)[0]
    for file in WEB.glob("*.js"):
        response = client.get(f"/{folder}/{file.name}")
        assert response.headers["content-type"].startswith("text/javascript")
        for name in re.findall(r'from "\./([^"]+)"', response.text):
            assert (WEB / name).is_file()


@pytest.mark.parametrize("path", ["web/0000/main.js", "web/x/..%2F..%2Fpage.py", "web/x/nope.js"])
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(f"/{path}").status_code == 404


def test_page_is_small() -> None:
    assert sum(len(file.content) for file in read_files(WEB).values()) < MAX_PAGE_BYTES


@pytest.mark.parametrize("label", POSITIONS)
def test_samples_are_what_the_golden_images_are(label: str) -> None:
    golden = read_golden(version_folder(MODELS, "sequential", 1) / "golden.npz")
    with Image.open(WEB / "samples" / f"{label}_{POSITIONS[label]:04}.png") as image:
        assert np.array_equal(np.asarray(image), golden.images[POSITIONS[label]])
