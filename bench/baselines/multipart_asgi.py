"""The same, with the form parsed by python-multipart into the file's bytes in memory."""

from python_multipart.multipart import MultipartParser, parse_options_header

from bench.baselines.answer import BODY, HEADERS
from bench.baselines.bare_asgi import Message, Receive, Send


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Return the constant after parsing the form; 400 if it has no file."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])  # tells uvicorn that there is no lifespan
    _, options = parse_options_header(dict(scope["headers"]).get(b"content-type", b""))
    file = bytearray()

    def on_part_data(data: bytes, start: int, end: int) -> None:
        file.extend(data[start:end])

    # The readiness probe has no form.
    parser = MultipartParser(options[b"boundary"], {"on_part_data": on_part_data}) if b"boundary" in options else None
    more = True
    while more:
        message = await receive()
        if parser is not None and message.get("body"):
            parser.write(message["body"])
        more = message.get("more_body", False)
    status = 200 if file or scope["method"] == "GET" else 400
    await send({"type": "http.response.start", "status": status, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
