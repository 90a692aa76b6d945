"""An ASGI application that takes each boundary and each file name once, and answers 400 the second time."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
HEAD = re.compile(rb'--([^\r\n]+)\r\nContent-Disposition: form-data; name="file"; filename="([^"]+)"\r\n')
seen: set[bytes] = set()


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Answer 200 to a complete form with a new boundary and a new file name, and to a GET."""
    assert scope["type"] == "http"
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    status = 200 if scope["method"] == "GET" or is_new(dict(scope["headers"])[b"content-type"], body) else 400
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


def is_new(content_type: bytes, body: bytes) -> bool:
    """Return whether the form is complete, and neither its boundary nor its file name was seen before."""
    found = HEAD.match(body)
    boundary = content_type.partition(b"boundary=")[2]
    if (
        not found
        or found[1] != boundary
        or not body.endswith(b"\r\n--" + boundary + b"--\r\n")
        or seen & {*found.groups()}
    ):
        return False
    seen.update(found.groups())
    return True
