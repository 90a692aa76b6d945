import sys
from pathlib import Path

import pytest

from bench.load import Target
from bench.open_loop import percentile, run_open_loop
from bench.processes import free_port, running
from bench.uploads import BodyKind, Upload, write_bodies
from tests.conftest import ROOT

SERVER = """
import sys

async def app(scope, receive, send):
    assert scope["type"] == "http"
    while (message := await receive()).get("more_body"):
        pass
    app.answered += 1
    status = 200 if app.answered % 2 else 503
    headers = [(b"content-length", b"2")] + ([(b"connection", b"close")] if status == 503 else [])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})

app.answered = 0
"""


@pytest.fixture
def target(tmp_path: Path) -> Target:
    bodies = tmp_path / "bodies"
    count = write_bodies(bodies, [Upload(b"an image", "image/png")], BodyKind.FORM)
    return Target("", bodies, count, BodyKind.FORM.value)


def test_requests_leave_at_the_rate_and_answers_are_counted_by_status(tmp_path: Path, target: Target) -> None:
    (tmp_path / "every_other.py").write_text(SERVER)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "every_other:app", "--port", str(port), "--lifespan", "off"]
    with running(
        command, port=port, ready_path="/", ready_processes=1, variables={}, folder=tmp_path, log=tmp_path / "log"
    ):
        url = f"http://127.0.0.1:{port}/predict"
        target = Target(url, target.bodies, target.body_count, target.content_type)
        seen = run_open_loop(target, model="sequential", capacity_per_s=20, wanted_per_s=40, seconds=1)
    assert set(seen.statuses) == {200, 503}
    assert seen.not_sent == 0
    assert seen.offered_per_s * seen.duration_s == pytest.approx(40, abs=1)
    assert seen.statuses[503] == pytest.approx(20, abs=1)
    assert 0 < seen.statuses[200] <= 21  # those in time
    assert seen.unanswered == seen.other_errors == 0
    assert seen.rejected_p99_ms
    assert seen.answered_p99_ms


def test_no_two_forms_have_the_same_boundary_or_file_name(tmp_path: Path, target: Target) -> None:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.bench.once_only:app", "--port", str(port), "--lifespan", "off"]
    with running(
        command, port=port, ready_path="/", ready_processes=1, variables={}, folder=ROOT, log=tmp_path / "log"
    ):
        target = Target(f"http://127.0.0.1:{port}/", target.bodies, target.body_count, target.content_type)
        seen = run_open_loop(target, model="sequential", capacity_per_s=20, wanted_per_s=40, seconds=1)
    assert set(seen.statuses) == {200}
    assert seen.unanswered == 0


def test_a_server_that_is_gone_leaves_requests_unanswered(target: Target) -> None:
    target = Target(f"http://127.0.0.1:{free_port()}/", target.bodies, target.body_count, target.content_type)
    seen = run_open_loop(target, model="sequential", capacity_per_s=10, wanted_per_s=20, seconds=1)
    assert seen.statuses == {}
    assert seen.unanswered == seen.other_errors == pytest.approx(20, abs=1)
    assert seen.rejected_p99_ms is None


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (100, 100), (1, 1)])
def test_percentile_is_a_value_that_was_seen(percent: float, value: float) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == value


def test_percentile_of_nothing() -> None:
    assert percentile([], 99) is None
