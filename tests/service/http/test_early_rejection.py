"""Heads of requests that are rejected before they are parsed, below a prefix that a proxy leaves in front, too."""

import pytest
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.errors import SettingsError
from service.http.early_rejection import read_head
from service.http.forwarding import Forwarding
from service.http.hot_routes import HotRoutes
from service.http.middleware import Application
from service.http.protocol import protocol_with
from service.inference.admission import Admission, Backlog
from service.settings import Settings

HEAD = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 3"


@pytest.mark.parametrize(
    ("target", "plain"),
    [
        (b"/predict?model=vgg16", False),
        (b"/v2/models/vgg16/infer", True),
        (b"/cifar/predict", False),
        (b"/cifar/v1/models/vgg16:predict", True),
    ],
)
def test_form_of_the_rejection_is_that_of_the_path_behind_the_prefix(target: bytes, plain: bool) -> None:
    head = read_head(HEAD % target, b"/cifar")
    assert head is not None
    assert (head.target, head.plain, head.body_bytes) == (target, plain, 3)


@pytest.mark.parametrize("root_path", ["", "/cifar"])
def test_requests_are_known_by_their_first_bytes_with_the_prefix_and_without(root_path: str) -> None:
    application = Application(FastAPI(), HotRoutes(Settings()), Settings(), forwarding=Forwarding(root_path))
    protocol = protocol_with(Backlog(Admission(1, 1), 1), application)
    for path in ("/predict", "/compare", "/v1/models/x:predict", "/v2/models/x/infer"):
        for prefix in ("", root_path):
            assert f"POST {prefix}{path} HTTP/1.1".encode().startswith(protocol.first_bytes)
    assert not b"POST /other/predict HTTP/1.1".startswith(protocol.first_bytes)
    assert not b"GET /cifar/predict HTTP/1.1".startswith(protocol.first_bytes)


def test_a_uvicorn_without_our_hooks_is_an_error_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(HttpToolsProtocol, "_start_asgi_task")
    application = Application(FastAPI(), HotRoutes(Settings()), Settings())
    with pytest.raises(SettingsError, match="has no _start_asgi_task"):
        protocol_with(Backlog(Admission(1, 1), 1), application)
