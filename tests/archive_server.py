"""An HTTP server with one archive: ETags, ranges, and connections that break."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cifar10_serving.stores.address import StoreAddress, parse_address


class ArchiveServer(ThreadingHTTPServer):
    """Serves one archive; `breaks_after` bytes it breaks off, once."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = b""
        self.breaks_after: int | None = None
        self.statuses: list[int] = []

    def address(self, name: str = "models.tar.gz") -> StoreAddress:
        return parse_address(f"http://127.0.0.1:{self.server_port}/{name}")


class Handler(BaseHTTPRequestHandler):
    """Answers conditional requests and open ranges."""

    server: ArchiveServer

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        content = self.server.content
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        if self.headers.get("If-None-Match") == etag:
            return self._head(304, {})
        first = self.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
        is_rest = bool(first) and self.headers.get("If-Range") == etag
        rest = content[int(first) :] if is_rest else content
        self._head(206 if is_rest else 200, {"ETag": etag, "Content-Length": str(len(rest))})
        self.wfile.write(rest[: self.server.breaks_after])
        self.server.breaks_after = None
        return None

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.server.statuses.append(status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def tar(content: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo("models/a/1/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return file.getvalue()


@contextmanager
def archive_server() -> Iterator[ArchiveServer]:
    """Run a server."""
    with ArchiveServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
