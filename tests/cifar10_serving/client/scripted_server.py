"""A server on a real socket with scripted answers: damaged, slow, from another program, or a 503 before the answer."""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cifar10_serving.schemas import BatchPrediction, BatchResult, ClassProbability, Prediction, Problem
from service.http.errors import KIND_PREFIX
from tests.waiting import PATIENCE_S

PREDICTION = Prediction(
    model="sequential",
    version=1,
    label="cat",
    class_id=3,
    confidence=0.75,
    top=[ClassProbability(label="cat", class_id=3, probability=0.75)],
)


@dataclass
class ScriptedServer:
    """Answers each request with the next answer, and repeats the last one; an empty answer closes the connection."""

    answers: Sequence[bytes]
    delay_s: float = 0.0
    byte_every_s: float = 0.0
    head_at_once: bool = True
    batches: bytes | None = None
    together: threading.Barrier | None = None
    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    arrived_s: list[float] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    counting: threading.Lock = field(default_factory=threading.Lock)
    active: int = 0
    most_active: int = 0

    def answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.requests.append(read_request(connection))
            self.arrived_s.append(time.monotonic())
            reply = self.answers[min(len(self.requests), len(self.answers)) - 1]
            if reply == ANSWERED and self.requests[-1].startswith(b"POST /predict/batch"):
                reply = self.batches or batch_answer(self.requests[-1].count(b'name="files"'))
            with self.counting:
                self.active += 1
                self.most_active = max(self.most_active, self.active)
            if self.together is not None:
                self.together.wait(PATIENCE_S)
            self.stopped.wait(self.delay_s)
            with self.counting:
                self.active -= 1
            if not self.byte_every_s:
                connection.sendall(reply)
                return
            at_once = reply.partition(b"\r\n\r\n")[0] if self.head_at_once else b""
            connection.sendall(at_once)
            for byte in reply[len(at_once) :]:
                if self.stopped.wait(self.byte_every_s):
                    return
                connection.sendall(bytes([byte]))


@contextlib.contextmanager
def scripted_server(
    *answers: bytes,
    delay_s: float = 0.0,
    byte_every_s: float = 0.0,
    head_at_once: bool = True,
    batches: bytes | None = None,
    together: int = 0,
    stop_after: int = sys.maxsize,
    port: int = 0,
) -> Iterator[ScriptedServer]:
    """Yield the server, on a free port unless one is given; it stops listening after this number of connections.

    With `together`, each such number of requests is answered once all of them are there.
    For the answer `ANSWERED`, a request with several images gets as many predictions, or `batches`.
    """
    with socket.create_server(("127.0.0.1", port)) as listening:
        listening.settimeout(0.05)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = ScriptedServer(
            answers,
            delay_s,
            byte_every_s,
            head_at_once,
            batches,
            threading.Barrier(together) if together else None,
            url,
        )
        threads: list[threading.Thread] = []

        def accept() -> None:
            while not server.stopped.is_set() and len(threads) < stop_after:
                with contextlib.suppress(TimeoutError):
                    connection, _ = listening.accept()
                    connection.settimeout(5)
                    threads.append(threading.Thread(target=server.answer, args=(connection,)))
                    threads[-1].start()
            listening.close()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server
        finally:
            server.stopped.set()
            accepting.join()
            for thread in threads:
                thread.join()


def read_request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            return received
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    declared = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0].strip()
    while len(body) < int(declared or b"0"):
        part = connection.recv(65536)
        if not part:
            break
        body += part
    return head + b"\r\n\r\n" + body


def http_answer(status: int, content_type: str, body: str, **headers: str) -> bytes:
    """Return a complete HTTP answer; `Retry_After="1"` becomes the header `Retry-After: 1`."""
    lines = [f"HTTP/1.1 {status} Phrase", f"Content-Type: {content_type}", f"Content-Length: {len(body.encode())}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "Connection: close", "", body]).encode()


def problem(status: int, kind: str, **headers: str) -> bytes:
    """Return a problem document of the service."""
    document = Problem(type=f"{KIND_PREFIX}{kind}", title="title", status=status, detail="what was wrong")
    body = document.model_dump_json()
    return http_answer(status, "application/problem+json", body, **headers)


def batch_answer(images: int) -> bytes:
    """Return the answer to a request with several images, with the same prediction for each."""
    batch = BatchPrediction(model="sequential", version=1, results=[BatchResult(prediction=PREDICTION)] * images)
    return http_answer(200, "application/json", batch.model_dump_json())


ANSWERED = http_answer(200, "application/json", PREDICTION.model_dump_json())
HTML = http_answer(200, "text/html; charset=utf-8", "<!doctype html>\n<title>Router</title>")
