"""Instances without a service: their answers, and their failures, are chosen by a test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Behaviour = Literal["answers", "overloaded", "silent", "not ready"]


class Stub(ThreadingHTTPServer):
    """An instance on a free port; `paths` has the path of each request but the health checks."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour: Behaviour = behaviour
        self.paths: list[str] = []
        self.checks = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: balancers reset connections after a check."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def do_GET(self) -> None:
        if self.path == "/readyz":
            self.server.checks += 1
            self._answer(503 if self.server.behaviour == "not ready" else 200)
        else:
            self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.paths.append(self.path)
        if self.server.behaviour == "silent":
            self.close_connection = True
            return
        self._answer(503 if self.server.behaviour == "overloaded" else 200, body)

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the standard library
        pass


@contextmanager
def running_stubs(*behaviours: Behaviour) -> Iterator[list[Stub]]:
    """Run stubs with these behaviours."""
    stubs = [Stub(behaviour) for behaviour in behaviours]
    for stub in stubs:
        threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield stubs
    finally:
        for stub in stubs:
            stub.shutdown()
            stub.server_close()
