import http.server
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.load import MARK, Target, parse, run_wrk
from bench.processes import free_port, get, running
from bench.uploads import PLACEHOLDER, BodyKind, Upload, body, varied_uploads, write_bodies
from cifar10_serving.artifacts.layout import version_folder
from tests.conftest import MODELS, ROOT

LINE = (
    MARK + '{"requests":5000,"duration_us":2000000,"p50_us":1500,"p90_us":2500,"p99_us":9000,"max_us":12000,'
    '"status":1000,"connect":1,"read":2,"write":3,"timeout":4}'
)
OUTPUT = f"Running 2s test @ http://127.0.0.1:1/predict\n  1 threads and 8 connections\n{LINE}\n"


def test_wrk_output_is_read() -> None:
    seen = parse(OUTPUT)
    assert seen.requests_per_s == 2000  # the 1,000 answers of 400 and above are no good ones
    assert (seen.p50_ms, seen.p90_ms, seen.p99_ms, seen.max_ms) == (1.5, 2.5, 9, 12)
    assert seen.socket_errors == {"connect": 1, "read": 2, "write": 3, "timeout": 4}
    assert seen.errors == 1010


@pytest.mark.parametrize(
    "output", ["", OUTPUT.replace(MARK, "json: "), OUTPUT + OUTPUT, OUTPUT.replace('"read"', '"r"')]
)
def test_other_output_is_rejected(output: str) -> None:
    with pytest.raises(BenchError):
        parse(output)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """No port yet; real uploads."""
    uploads = varied_uploads(ROOT / "tests/images", [version_folder(MODELS, "sequential", 2)])
    count = write_bodies(tmp_path / "bodies", uploads, BodyKind.FORM)
    return Target("", tmp_path / "bodies", count, BodyKind.FORM.value)


@contextmanager
def once_only(tmp_path: Path) -> Iterator[str]:
    """Run the server that takes each boundary and file name once; yield its URL."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.bench.once_only:app", "--port", str(port), "--no-access-log"]
    with running(
        command, port=port, ready_path="/", ready_processes=1, variables={}, folder=ROOT, log=tmp_path / "log"
    ):
        yield f"http://127.0.0.1:{port}/predict"


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_loads_the_bare_baseline_which_is_gone_afterwards(tmp_path: Path, target: Target) -> None:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "bench.baselines.bare_asgi:app", "--port", str(port)]
    with running(
        command, port=port, ready_path="/", ready_processes=1, variables={}, folder=ROOT, log=tmp_path / "log"
    ) as server:
        assert server.ready_s > 0
        assert server.rss_bytes > 10_000_000
        url = f"http://127.0.0.1:{port}/predict"
        seen = run_wrk(Target(url, target.bodies, target.body_count, target.content_type), concurrency=4, seconds=1)
    assert seen.requests > 0
    assert seen.errors == 0
    assert 0 < seen.p50_ms <= seen.p99_ms <= seen.max_ms
    with pytest.raises(OSError, match="refused"):
        get(port, "/")


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_no_two_forms_have_the_same_boundary_or_file_name(tmp_path: Path, target: Target) -> None:
    with once_only(tmp_path) as url:
        target = Target(url, target.bodies, target.body_count, target.content_type)
        for _ in range(2):  # nor do those of two runs
            seen = run_wrk(target, concurrency=4, seconds=1)
            assert seen.requests > target.body_count
            assert seen.errors == 0


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_form_that_comes_again_is_noticed(tmp_path: Path, target: Target) -> None:
    (target.bodies / "0").write_bytes((target.bodies / "0").read_bytes().replace(PLACEHOLDER.encode(), b"1" * 16))
    with once_only(tmp_path) as url:
        assert run_wrk(Target(url, target.bodies, 1, "a; boundary=" + "1" * 16), concurrency=1, seconds=1).errors > 0


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_other_headers_are_sent(tmp_path: Path) -> None:
    """A V2 request is the same each time; a server in Python shows what arrived."""
    upload = Upload(b"an image", "image/png")
    count = write_bodies(tmp_path / "bodies", [upload], BodyKind.V2_BINARY)
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            received.append((self.headers["Inference-Header-Content-Length"], self.rfile.read(length)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        kind = BodyKind.V2_BINARY
        run_wrk(Target(url, tmp_path / "bodies", count, kind.value, kind.headers), concurrency=1, seconds=1)
        server.shutdown()
    assert set(received) == {("256", body(upload, BodyKind.V2_BINARY))}
