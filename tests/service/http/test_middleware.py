"""Hot routes: found by their paths, and answered by the same handler on the fast and the standard path."""

import json
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.testclient import TestClient

from service.http.exchange import Answer, HttpExchange
from service.http.middleware import Application, HotRoutes
from service.settings import Settings


async def echo(exchange: HttpExchange) -> Answer:
    """Say what was asked."""
    with_slot: Any = _Slot()
    body, _ = await exchange.read(with_slot)
    return Answer(json.dumps([dict(exchange.path_params), body.decode(), exchange.query.decode()]).encode())


class _Slot:
    def hold_bytes(self, _size_bytes: int) -> None:
        """Count nothing."""


def make(*paths: str) -> tuple[FastAPI, HotRoutes]:
    app, routes = FastAPI(), APIRouter(prefix="/v9")
    hot = HotRoutes(Settings())
    for path in paths:
        hot.add(routes, path, echo, name="echo")
    app.include_router(routes)
    return app, hot


@pytest.mark.parametrize(
    ("path", "path_params"),
    [
        ("/v9/a", {}),
        ("/v9/a/x:ask", {"name": "x"}),
        ("/v9/a/x/b/2", {"name": "x", "number": "2"}),
        ("/v9/a/", None),
        ("/v9/a/x/b/2/", None),
        ("/v9/a/x/y:ask", None),
        ("/a", None),
    ],
)
def test_route_is_found_by_its_whole_path(path: str, path_params: dict[str, str] | None) -> None:
    _, hot = make("/a", "/a/{name}:ask", "/a/{name}/b/{number}")
    for _ in range(2):
        found = hot.find(path)
        assert (None if found is None else dict(found.path_params)) == path_params


def test_route_is_found_as_soon_as_it_is_added() -> None:
    app, hot = make()
    assert hot.find("/b") is None
    hot.add(app.router, "/b", echo, name="echo")
    assert hot.find("/b") is not None


def test_one_handler_answers_with_fastapis_routing_and_without() -> None:
    app, hot = make("/a/{name}:ask")
    whole = Application(app, hot, Settings())
    seen: list[Any] = []

    async def without_hot_routes(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        await Application(app, HotRoutes(Settings()), Settings())(scope, receive, send)

    answers = [
        TestClient(application).post("/v9/a/x:ask?b=c", content=b"body").json()
        for application in (whole, without_hot_routes)
    ]
    assert answers == [[{"name": "x"}, "body", "b=c"]] * 2
    assert seen == ["http"]


def test_other_methods_are_left_to_fastapi() -> None:
    app, hot = make("/a")
    assert TestClient(Application(app, hot, Settings())).get("/v9/a").status_code == 405


def test_handler_s_docstring_describes_the_operation() -> None:
    app, _ = make("/a")
    assert app.openapi()["paths"]["/v9/a"]["post"]["description"] == "Say what was asked."
