"""What only the operator may do: `POST /admin/reload`. There is no such route without the setting `admin_token`.

Other routes for the operator ask for the same secret, by `authorization`.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from catalog.responses import ReloadReport
from service.api.declarations import problem_responses
from service.core.watcher import Watcher
from service.errors import UnauthorizedError
from service.settings import variable

BEARER = HTTPBearer(auto_error=False, description=f"the value of the setting `{variable('admin_token')}`")


def authorization(token: SecretStr) -> Callable[..., Awaitable[None]]:
    """A dependency of routes that are open to who sends the token as `Authorization: Bearer TOKEN`."""

    async def authorize(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> None:
        # ASGI decodes headers as Latin-1, whatever the bytes were.
        check_token(credentials.credentials.encode("latin-1") if credentials is not None else None, token)

    return authorize


def check_token(given: bytes | None, token: SecretStr) -> None:
    """Whether this is the token.

    Raises:
        UnauthorizedError: it is not, or there is none.
    """
    if not secrets.compare_digest(given or b"", token.get_secret_value().encode()):
        raise UnauthorizedError(
            "the token is missing" if given is None else "the token is wrong",
            expected="the header 'Authorization: Bearer TOKEN'",
            remedy=f"send the value of {variable('admin_token')}, with which the service was started",
        )


def admin_routes(watcher: Watcher, token: SecretStr, *, tell_others: Callable[[], None]) -> APIRouter:
    """The routes.

    Args:
        tell_others: has other processes that serve look for new versions, too; returns at once.
    """
    routes = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(authorization(token))])

    @routes.post("/reload", summary="Check for new and withdrawn versions now", responses=problem_responses(401, 503))
    async def reload() -> ReloadReport:
        """Answers once all that is new is loaded and all that is gone unloaded; versions that failed are tried again.

        Requests are answered all the while, by what was loaded before. With several workers the answer tells of one;
        the others look at the same time.
        """
        tell_others()
        return await asyncio.wrap_future(watcher.scan_now())

    return routes
