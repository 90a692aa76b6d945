"""The service below a path prefix of a real nginx, which strips it or not; also in a browser."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx2 as httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.conftest import SAMPLES, golden_class
from tests.e2e.browser import chromium
from tests.e2e.nginx import running_nginx
from tests.e2e.server import Server, running_server
from tests.waiting import wait_until

CAT = SAMPLES[3]
LOCATIONS = {
    "named by a header, stripped": (
        "/cifar",
        "location /cifar/ { proxy_set_header X-Forwarded-Prefix /cifar; proxy_pass http://service/; }",
        {"CIFAR10_TRUSTED_PROXIES": "127.0.0.1"},
    ),
    "named by a setting, stripped": (
        "/cifar",
        "location /cifar/ { proxy_pass http://service/; }",
        {"CIFAR10_TRUSTED_PROXIES": "127.0.0.0/8,::1", "CIFAR10_ROOT_PATH": "/cifar"},
    ),
    "named by a setting, unstripped": (
        "/apps/cifar",
        "location /apps/cifar { proxy_pass http://service; }",
        {"CIFAR10_TRUSTED_PROXIES": "127.0.0.1", "CIFAR10_ROOT_PATH": "/apps/cifar/"},
    ),
    "not named at all, stripped": ("/cifar", "location /cifar/ { proxy_pass http://service/; }", {}),
}


@pytest.fixture(scope="module", params=LOCATIONS, ids=lambda name: name.replace(", ", "_").replace(" ", "-"))
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The service's address behind nginx, without a last slash."""
    prefix, location, settings = LOCATIONS[request.param]
    folder = tmp_path_factory.mktemp("proxy")
    with (
        running_server(folder / "log", **settings) as server,
        running_nginx(folder, urlsplit(server.url).netloc, location) as address,
    ):
        yield f"{address}{prefix}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.mark.browser
def test_page_answers_in_a_browser(site: str, browser: Browser) -> None:
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(f"{site}/")
    expect(page.locator(".model")).to_have_count(3, timeout=30_000)
    page.set_input_files("#files", str(CAT.file))
    expect(page.locator("#answer-body .headline .label")).to_be_visible(timeout=30_000)
    page.get_by_role("link", name="API").click()
    expect(page).to_have_url(f"{site}/docs")
    assert not complaints
    page.close()


@pytest.mark.browser
def test_docs_show_and_try_the_api_in_a_browser(site: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{site}/docs/")
    expect(page).to_have_url(f"{site}/docs")
    operation = page.locator("#operations-health-livez_livez_get")
    operation.locator(".opblock-summary-control").click(timeout=30_000)
    operation.get_by_role("button", name="Try it out").click()
    with page.expect_response(lambda response: response.url.endswith("/livez")) as asked:
        operation.get_by_role("button", name="Execute").click()
    assert asked.value.url == f"{site}/livez"
    assert asked.value.status == 200
    page.close()


@pytest.mark.parametrize("path", ["/docs/", "/models/", "/models/sequential/"])
def test_redirects_stay_below_the_prefix(site: str, path: str) -> None:
    response = httpx.get(f"{site}{path}")
    assert response.status_code == 307
    assert urljoin(f"{site}{path}", response.headers["location"]) == f"{site}{path[:-1]}"
    assert httpx.get(f"{site}{path}", follow_redirects=True).status_code == 200


def test_prefix_without_a_slash_leads_to_the_page(site: str) -> None:
    response = httpx.get(site, follow_redirects=True)
    assert response.status_code == 200
    assert "<title>cifar10-serving" in response.text


def test_server_of_the_document_is_below_the_prefix(site: str) -> None:
    (server,) = httpx.get(f"{site}/openapi.json").json()["servers"]
    assert urljoin(f"{site}/openapi.json", server["url"]).rstrip("/") == site


def test_every_protocol_answers_on_one_connection(site: str) -> None:
    pixels = CAT.pixels.tolist()
    with httpx.Client(base_url=site) as client:
        for _ in range(3):
            answered = client.post("/predict", files={"file": CAT.file.read_bytes()}, params={"model": "sequential"})
            assert answered.json()["class_id"] == golden_class("sequential", CAT)
            v1 = client.post("/v1/models/sequential:predict", json={"instances": [pixels]})
            assert len(v1.json()["predictions"][0]) == 10
            inputs = [{"name": "images", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [pixels]}]
            v2 = client.post("/v2/models/sequential/infer", json={"inputs": inputs})
            assert v2.json()["model_name"] == "sequential"
            assert list(client.get("/v2/models/alexnet").json()) == ["error"]


@pytest.fixture(scope="module")
def large_picture() -> bytes:
    stream = BytesIO()
    Image.effect_noise((3000, 2000), 80).convert("RGB").save(stream, "PNG", compress_level=0)
    return stream.getvalue()


def test_large_upload_is_answered(site: str, large_picture: bytes) -> None:
    assert len(large_picture) > 15_000_000
    response = httpx.post(f"{site}/predict", files={"file": large_picture}, timeout=60)
    assert response.status_code == 200
    too_large = httpx.post(f"{site}/predict", content=bytes(21 * 2**20), timeout=60)
    assert too_large.status_code in (413, 415)


def test_upgrade_that_the_proxy_hands_on_is_passed_over(site: str) -> None:
    parts = urlsplit(site)
    assert parts.hostname is not None
    headers = {"Connection": "Upgrade", "Upgrade": "h2c", "Content-Type": "image/png"}
    with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)) as connection:
        connection.request("POST", f"{parts.path}/predict", CAT.file.read_bytes(), headers)
        with connection.getresponse() as response:
            response.read()
            assert response.status == 200


def test_log_has_the_client_that_the_last_untrusted_proxy_names(prefixed: Server, tmp_path: Path) -> None:
    location = "location / { proxy_pass http://service; }"
    with running_nginx(tmp_path, urlsplit(prefixed.url).netloc, location) as address:
        httpx.get(f"{address}/models", headers={"X-Forwarded-For": "6.6.6.6, 198.51.100.7, 203.0.113.9"})

    def logged() -> list[str]:
        lines = [json.loads(line) for line in prefixed.log.read_text().splitlines() if '"/models"' in line]
        return [line["client"].split(":")[0] for line in lines]

    wait_until(logged)
    assert logged() == ["203.0.113.9"]


def test_server_itself_answers_with_and_without_the_prefix(prefixed: Server) -> None:
    for path in ("/livez", "/cifar/livez"):
        assert httpx.get(f"{prefixed.url}{path}").status_code == 200
    host, port = urlsplit(prefixed.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        raw.sendall(b"GET /cifar HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        head = raw.makefile("rb").read().decode().lower()
    assert "location: ./cifar/" in head


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n", 400),
        (b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 9000), 414),
        (b"GET /cifar/livez HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: %b\r\n\r\n" % (b"1" * 70_000), 431),
    ],
)
def test_heads_that_are_rejected_are_answered_with_a_prefix_too(
    prefixed: Server, request_bytes: bytes, status: int
) -> None:
    host, port = urlsplit(prefixed.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        raw.sendall(request_bytes)
        head = raw.recv(65536).decode().lower()
    assert head.startswith(f"http/1.1 {status} ")
    assert "x-content-type-options: nosniff" in head


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a prefix and a trusted proxy, which is this test."""
    log = tmp_path_factory.mktemp("prefixed") / "log"
    with running_server(log, CIFAR10_ROOT_PATH="/cifar", CIFAR10_TRUSTED_PROXIES="127.0.0.1") as server:
        yield server
