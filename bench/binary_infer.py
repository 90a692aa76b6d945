"""Measure the overhead over the runtime call for requests with 32 images in binary (V2), sent one after the other.

The client measures its own latency. The server reports the time in the service and in the runtime for the same requests
(Triton's statistics extension). So other load on the machine affects all compared values equally.
"""

import json
import socket
import time
from pathlib import Path
from typing import Final

import numpy as np

from bench.errors import BenchError
from bench.measurements import BinaryInfer
from bench.processes import Running, get
from bench.uploads import golden

ROWS: Final = 32
WARM_UP_CALLS: Final = 20
RECEIVE_BYTES: Final = 65536
HEAD_END: Final = b"\r\n\r\n"
LENGTH: Final = b"content-length: "
ANSWER_TIMEOUT_S: Final = 30.0


def binary_infer(process: Running, model: str, version: Path, *, seconds: float) -> BinaryInfer:
    """Send requests to our server, one after the other, for this long.

    Args:
        version: the folder of the version, for its golden images.

    Raises:
        BenchError: an answer is wrong.
    """
    request = _request(model, version)
    with socket.create_connection(("127.0.0.1", process.port), timeout=ANSWER_TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(WARM_UP_CALLS):
            _ask(connection, request)
        before = _counted(process, model)
        times_s: list[float] = []
        end_s = time.perf_counter() + seconds
        while time.perf_counter() < end_s:
            start_s = time.perf_counter()
            _ask(connection, request)
            times_s.append(time.perf_counter() - start_s)
    after = _counted(process, model)
    calls, in_service_ns, in_runtime_ns = (new - old for new, old in zip(after, before, strict=True))
    if calls != len(times_s):
        raise BenchError(f"{len(times_s)} requests were sent, and the server counted {calls}: are there other clients?")
    return BinaryInfer(
        rows=ROWS,
        requests=calls,
        client_ms=sum(times_s) / calls * 1e3,
        service_ms=in_service_ns / calls / 1e6,
        runtime_ms=in_runtime_ns / calls / 1e6,
    )


def _request(model: str, version: Path) -> bytes:
    pixels = np.ascontiguousarray(golden(version)[0][:ROWS]).tobytes()
    given = {"name": "images", "datatype": "UINT8", "shape": [ROWS, 32, 32, 3]}
    document = {
        "inputs": [given | {"parameters": {"binary_data_size": len(pixels)}}],
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
    }
    head = json.dumps(document).encode()
    lines = (
        f"POST /v2/models/{model}/infer HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/octet-stream",
        f"Inference-Header-Content-Length: {len(head)}",
        f"Content-Length: {len(head) + len(pixels)}",
    )
    return "\r\n".join(lines).encode() + HEAD_END + head + pixels


def _ask(connection: socket.socket, request: bytes) -> None:
    """Send a request and read its answer with minimal HTTP parsing: the client's own time counts against us."""
    connection.sendall(request)
    received = b""
    while HEAD_END not in received:
        received += _receive(connection)
    head, _, body = received.partition(HEAD_END)
    if not head.startswith(b"HTTP/1.1 200 "):
        raise BenchError(f"V2 binary infer is answered: {received[:300]!r}")
    length = head.lower().partition(LENGTH)[2].partition(b"\r\n")[0]
    while len(body) < int(length):
        body += _receive(connection)


def _receive(connection: socket.socket) -> bytes:
    received = connection.recv(RECEIVE_BYTES)
    if not received:
        raise BenchError("the server closed the connection in the middle of an answer")
    return received


def _counted(process: Running, model: str) -> tuple[int, int, int]:
    """Return the number of good answers, and their nanoseconds in the service and in the runtime."""
    _, content = get(process.port, f"/v2/models/{model}/stats")
    [told] = json.loads(content)["model_stats"]
    success, runtime = told["inference_stats"]["success"], told["inference_stats"]["compute_infer"]
    return success["count"], success["ns"], runtime["ns"]
