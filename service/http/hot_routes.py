"""Routes of prediction requests, which bypass FastAPI's routing and validation.

Routing and validation would cost more than the rest of a small request. A hot route is declared once, by
`HotRoutes.add`. FastAPI gets it for the OpenAPI document and for requests to its application alone; the same handler
answers on every path. Handlers await only futures and `asyncio.sleep(0)`, so that an `EagerCall` can run them without
a task.
"""

import inspect
import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, Request, Response
from starlette.routing import compile_path

from service.http.answers import to_response
from service.http.exchange import AsgiExchange, Handler
from service.settings import Settings

MAX_KEPT_PATHS: Final = 512
"""Number of cached paths; the protocol limits each to 8 KiB."""


class HotRoute(NamedTuple):
    """A handler and the path's parameters."""

    handler: Handler
    path_params: Mapping[str, str]


class HotRoutes:
    """The hot routes; each answers POST.

    Args:
        settings: limits and time-outs for requests that come through FastAPI's routing.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._routes: list[tuple[re.Pattern[str], Handler]] = []
        self.find = lru_cache(MAX_KEPT_PATHS)(self._find)
        """Return the hot route of a path, or None."""

    def add(
        self,
        router: APIRouter,
        path: str,
        handler: Handler,
        *,
        name: str,
        description: str | None = None,
        **declaration: Any,
    ) -> None:
        """Let a handler answer POST on a path.

        Args:
            router: the router whose OpenAPI document describes the route.
            path: the path below the router's prefix, in FastAPI's form.
            handler: the function that answers.
            name: the operation's name in the document.
            description: the operation's description; None for the handler's docstring.
            declaration: further arguments of FastAPI's `add_api_route`.
        """

        async def endpoint(request: Request) -> Response:
            return await respond(request, self._settings, handler)

        description = description or inspect.getdoc(handler)
        router.add_api_route(path, endpoint, methods=["POST"], name=name, description=description, **declaration)
        pattern, _, _ = compile_path(router.prefix + path)
        self._routes.append((pattern, handler))
        self.find.cache_clear()

    def _find(self, path: str) -> HotRoute | None:
        for pattern, handler in self._routes:
            if (found := pattern.match(path)) is not None:
                return HotRoute(handler, MappingProxyType(found.groupdict()))
        return None


async def respond(request: Request, settings: Settings, handler: Handler) -> Response:
    """Return a handler's answer to a request that came through FastAPI's routing."""
    return to_response(await AsgiExchange(request.scope, request.receive, settings).run(handler))
