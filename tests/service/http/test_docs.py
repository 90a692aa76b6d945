"""The API's documentation page, redirects and the document's address, with and without a prefix."""

import re
from collections.abc import Iterator
from urllib.parse import urljoin

import pytest
from fastapi.testclient import TestClient

from service.settings import Settings
from tests.conftest import SMALL_MODELS, ready_client

SITE = "https://example.org"
PREFIX = "/apps/cifar"


@pytest.fixture(scope="module")
def prefixed() -> Iterator[TestClient]:
    """A client of an application that a proxy serves below `PREFIX`."""
    with ready_client(Settings(models=SMALL_MODELS, root_path=PREFIX)) as client:
        client.follow_redirects = False
        yield client


@pytest.mark.parametrize("asked", ["", PREFIX], ids=["stripped", "unstripped"])
def test_page_names_files_that_are_there_below_the_prefix(prefixed: TestClient, asked: str) -> None:
    for page in ("/", "/docs"):
        response = prefixed.get(f"{asked}{page}")
        assert response.status_code == 200
        addresses = re.findall(r"""(?:src|href)="([^"#]+)"|url: '([^']+)'""", response.text)
        assert len(addresses) > 3
        for found in addresses:
            address = urljoin(f"{SITE}{PREFIX}{page}", "".join(found))
            assert address.startswith(f"{SITE}{PREFIX}/")
            inside = address.removeprefix(f"{SITE}{PREFIX}")
            assert prefixed.get(f"{asked}{inside}").status_code == 200


@pytest.mark.parametrize("asked", ["", PREFIX], ids=["stripped", "unstripped"])
@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/docs/", "/docs"),
        ("/models/", "/models"),
        ("/models/sequential/?x=1&y=%20", "/models/sequential?x=1&y=%20"),
        ("/models/b%20c:d/", "/models/b%20c:d"),
        ("/static-offline-docs", "/static-offline-docs/"),
    ],
)
def test_redirect_stays_below_the_prefix(prefixed: TestClient, asked: str, path: str, target: str) -> None:
    response = prefixed.get(f"{asked}{path}", headers={"Host": "evil.example"})
    assert response.status_code == 307
    location = response.headers["location"]
    assert "evil" not in location
    assert urljoin(f"{SITE}{PREFIX}{path}", location) == f"{SITE}{PREFIX}{target}"


def test_prefix_without_a_slash_leads_to_the_page(prefixed: TestClient) -> None:
    response = prefixed.get(PREFIX)
    assert response.status_code == 307
    assert urljoin(f"{SITE}{PREFIX}", response.headers["location"]) == f"{SITE}{PREFIX}/"


@pytest.mark.parametrize("asked", ["", PREFIX], ids=["stripped", "unstripped"])
def test_document_names_the_prefix_as_its_server(prefixed: TestClient, asked: str) -> None:
    document = prefixed.get(f"{asked}/openapi.json").json()
    (server,) = document["servers"]
    assert urljoin(f"{SITE}{PREFIX}/openapi.json", server["url"]) == f"{SITE}{PREFIX}"


def test_document_without_a_prefix_is_served_beside_the_api(client: TestClient) -> None:
    (server,) = client.get("/openapi.json").json()["servers"]
    assert urljoin(f"{SITE}{PREFIX}/openapi.json", server["url"]).rstrip("/") == f"{SITE}{PREFIX}"


@pytest.mark.parametrize("asked", ["", PREFIX], ids=["stripped", "unstripped"])
def test_errors_of_the_protocols_keep_their_form(prefixed: TestClient, asked: str) -> None:
    for path in ("/v1/models/alexnet", "/v2/models/alexnet", "/v2/nope"):
        assert list(prefixed.get(f"{asked}{path}").json()) == ["error"]
    infer = prefixed.post(f"{asked}/v2/models/sequential/infer", content=b"{")
    assert (infer.status_code, list(infer.json())) == (400, ["error"])


def test_documents_need_nothing_from_outside(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "//cdn" not in page
    assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200
    assert 'href="docs"' in client.get("/").text
