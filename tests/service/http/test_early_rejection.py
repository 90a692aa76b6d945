"""Heads of requests that are rejected before they are parsed, also below a prefix that a proxy does not strip."""

from typing import Final

import pytest
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.errors import SettingsError
from service.http.early_rejection import read_head
from service.http.forwarding import Forwarding
from service.http.head import MAX_HEADERS
from service.http.hot_routes import HotRoutes
from service.http.middleware import Application
from service.http.protocol import protocol_with
from service.inference.admission import Admission, Backlog
from service.settings import Settings
from tests.service.connections import Connection

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


WHOLE_HEAD: Final = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nA: b"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "head",
    [
        WHOLE_HEAD.replace(b"Host: x\r\n", b""),
        WHOLE_HEAD.replace(b"Host: x", b"Host: x\r\nHost: x"),
        WHOLE_HEAD.replace(b"Host: x", b"Host: a b"),
        WHOLE_HEAD.replace(b"Host: x", b"Host: x:y"),
        WHOLE_HEAD.replace(b"Host: x", b"Host: x:80:80"),
        WHOLE_HEAD.replace(b"Host: x", b"Host: x:123456"),
        WHOLE_HEAD.replace(b"HTTP/1.1", b"HTTP/1.7"),
        WHOLE_HEAD.replace(b"HTTP/1.1", b"HTTP/2.0"),
        WHOLE_HEAD.replace(b"A: b", b"A : b"),
        WHOLE_HEAD.replace(b"A: b", b"A: b\r\n c"),
        WHOLE_HEAD.replace(b"A: b", b"A: b\nC: d"),
        WHOLE_HEAD.replace(b"A: b", b"A: \x00"),
        WHOLE_HEAD.replace(b"A: b", b"A"),
        WHOLE_HEAD.replace(b"A: b", b"Transfer-Encoding: chunked"),
        WHOLE_HEAD.replace(b"A: b", b"\r\n".join([b"a: b"] * MAX_HEADERS)),
    ],
)
async def test_malformed_head_is_not_rejected_unparsed_under_load(head: bytes) -> None:
    assert read_head(WHOLE_HEAD) is not None
    assert read_head(head) is None
    connection = Connection(settings=Settings(max_backlog_requests=1))
    connection.backlog.add(b"/predict", lambda _: None)
    for _ in range(20):
        connection.backlog.add(b"/predict", lambda _: None)
    assert connection.backlog.rejects
    await connection.send(head + b"\r\n\r\nhello")
    assert connection.statuses[0] in {400, 431}
    assert connection.is_over
