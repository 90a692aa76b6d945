"""Count the hops of one request: the project's files, functions and calls that it passes through, by path.

    python -m scripts.trace_request [--model sequential] [--path fast standard v2 grpc] [--list]

The service runs in this process's main thread, on a free port, with Python's profiler hook installed; a client in
another thread warms each path up and then sends a few requests, one at a time. Of those the one with the fewest calls
counts, so that a background task that happened to run beside it does not. Generated code and libraries don't count.
"""

import argparse
import http.client
import io
import json
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import numpy as np
from PIL import Image

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = tuple(f"{ROOT / name}{os.sep}" for name in ("cifar10_serving", "service"))
GENERATED: Final = f"{os.sep}generated{os.sep}"
IMAGE: Final = ROOT / "tests/images/cat_0008.png"
PHOTO_SIZE: Final = (640, 480)
START_TIMEOUT_S: Final = 60
WARM_UP: Final = 10
REQUESTS: Final = 5
SETTLE_S: Final = 0.15
"""After an answer: the server's last callbacks still belong to the request."""


@dataclass
class Tracer:
    """The profiler hook, which counts calls of the project's functions while `is_on`."""

    is_on: bool = False
    calls: Counter[CodeType] = field(default_factory=Counter)

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        """Count a call."""
        if self.is_on and event == "call":
            code = frame.f_code
            if code.co_filename.startswith(PACKAGES) and GENERATED not in code.co_filename:
                self.calls[code] += 1

    def trace(self, send: Callable[[], None]) -> Counter[CodeType]:
        """Return the calls by function of one request."""
        self.calls = Counter()
        self.is_on = True
        send()
        time.sleep(SETTLE_S)
        self.is_on = False
        return self.calls


def main() -> int:
    """Print a line for each path; with `--list` also its functions."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--model", default="sequential")
    parser.add_argument("--path", nargs="+", choices=sorted(PATHS), default=list(PATHS), help="which paths")
    parser.add_argument("--list", action="store_true", help="print each function and its calls, too")
    arguments = parser.parse_args()
    http_port, grpc_port = _free_ports()
    tracer = Tracer()

    def client() -> None:
        try:
            _wait_until_ready(http_port)
            for name in arguments.path:
                send = PATHS[name](arguments.model, grpc_port if name == "grpc" else http_port)
                for _ in range(WARM_UP):
                    send()
                _print(name, min((tracer.trace(send) for _ in range(REQUESTS)), key=Counter.total), arguments.list)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=client)
    asking.start()
    # Threads that the service starts later get the hook, and so does this one; the client's has none.
    threading.setprofile(tracer)
    sys.setprofile(tracer)
    return _serve(http_port, grpc_port)


def _serve(http_port: int, grpc_port: int) -> int:
    from service.process.serve import serve

    flags = ["--port", str(http_port), "--grpc-port", str(grpc_port), "--log-level", "error"]
    return serve([*flags, "--access-log-sample-rate", "1", "--poll-interval-s", "0"])


def _print(name: str, calls: Counter[CodeType], is_long: bool) -> None:
    files = {code.co_filename for code in calls}
    print(f"{name:9} {len(files):3} files {len(calls):4} functions {calls.total():4} calls", flush=True)
    if is_long:
        for code, count in sorted(calls.items(), key=lambda item: (item[0].co_filename, item[0].co_firstlineno)):
            print(f"    {Path(code.co_filename).relative_to(ROOT)}:{code.co_firstlineno} {code.co_qualname} x{count}")


def _fast(model: str, port: int) -> Callable[[], None]:
    return _predict(model, port, IMAGE.read_bytes(), "image/png")


def _standard(model: str, port: int) -> Callable[[], None]:
    photo = io.BytesIO()
    with Image.open(IMAGE) as image:
        image.resize(PHOTO_SIZE, Image.Resampling.BICUBIC).save(photo, "JPEG", quality=90)
    return _predict(model, port, photo.getvalue(), "image/jpeg")


def _predict(model: str, port: int, image: bytes, media_type: str) -> Callable[[], None]:
    """Return a call that posts the image as a form, with a fresh boundary and file name each time."""
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def send() -> None:
        boundary = uuid.uuid4().hex
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{boundary[:8]}.bin"\r\n'
            f"Content-Type: {media_type}\r\n\r\n"
        )
        body = head.encode() + image + f"\r\n--{boundary}--\r\n".encode()
        content_type = f"multipart/form-data; boundary={boundary}"
        _post(connection, f"/predict?model={model}", body, content_type)

    return send


def _v2(model: str, port: int) -> Callable[[], None]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    pixels = np.asarray(Image.open(IMAGE).convert("RGB"))
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": pixels.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    return lambda: _post(connection, f"/v2/models/{model}/infer", body, "application/json")


def _grpc(model: str, port: int) -> Callable[[], None]:
    import grpc

    from service.api.kserve.generated import open_inference_pb2 as messages

    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    infer = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=messages.ModelInferRequest.SerializeToString,
        response_deserializer=messages.ModelInferResponse.FromString,
    )
    request = messages.ModelInferRequest(model_name=model)
    request.inputs.add(name="images", datatype="UINT8", shape=[1, 32, 32, 3])
    request.raw_input_contents.append(np.asarray(Image.open(IMAGE).convert("RGB")).tobytes())
    return lambda: infer(request) and None


PATHS: Final = {"fast": _fast, "standard": _standard, "v2": _v2, "grpc": _grpc}


def _post(connection: http.client.HTTPConnection, path: str, body: bytes, content_type: str) -> None:
    connection.request("POST", path, body, {"Content-Type": content_type})
    response = connection.getresponse()
    answer = response.read()
    if response.status != http.HTTPStatus.OK:
        raise RuntimeError(f"POST {path}: {response.status} {answer[:200]!r}")


def _wait_until_ready(port: int) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            response.read()
            if response.status == http.HTTPStatus.OK:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise TimeoutError(f"the service is not ready after {START_TIMEOUT_S} s")


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
