"""The other commands: their text and JSON match the service's answers."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from cifar10_serving.artifacts.metadata import ModelMetadata
from cifar10_serving.client import AsyncClient
from cifar10_serving.client.commands.bench import Load
from cifar10_serving.client.commands.exit_codes import ExitCode
from cifar10_serving.schemas import Comparison, Explanation, ModelList, ModelStatus, Prediction
from tests.cifar10_serving.client.commands.conftest import Run
from tests.cifar10_serving.client.scripted_server import HTML, PREDICTION, http_answer, problem, scripted_server
from tests.conftest import SAMPLES, newest_version
from tests.e2e.server import free_port
from tests.waiting import ManualClock
from training.cifar10 import CLASS_NAMES, SMALL_CNNS

CAT = SAMPLES[3].file
LOADING = '{"ready":false,"reason":"models are being loaded","models":{}}'
PREDICTED = PREDICTION.model_dump_json()
READY = '{"ready":true,"reason":null,"models":{"sequential":"ready"}}'


def test_models_lists_each_with_its_stored_accuracy(run: Run) -> None:
    listed = ModelList.model_validate_json(run("models", "--json").out)
    lines = run("models").out.splitlines()
    for model in listed.models:
        version = next(entry for entry in model.versions if entry.version == model.serving_version)
        line = next(line for line in lines if line.startswith(model.name))
        assert f"version {version.version}" in line
        assert f"{version.precision} " in line
        assert f"{version.test_accuracy:.4f}" in line
        assert (f"{model.name} *" in line) == model.default
    assert lines[-1] == (
        f"{listed.runtime} {listed.runtime_version} on {listed.device}; default model: {listed.default_model}"
    )


def test_model_shows_its_versions_and_one_of_them_in_full(run: Run) -> None:
    status = ModelStatus.model_validate_json(run("model", "sequential", "--json").out)
    text = run("model", "sequential").out
    assert all(f"{entry.test_accuracy:.4f}" in text for entry in status.versions)
    metadata = ModelMetadata.model_validate_json(run("model", "sequential", "--version", 1, "--json").out)
    text = run("model", "sequential", "--version", 1).out
    assert f"{metadata.parameters.total:,} parameters" in text
    assert all(name in text for name in CLASS_NAMES)


def test_compare_shows_every_model_or_those_asked_for(run: Run) -> None:
    comparison = Comparison.model_validate_json(run("compare", CAT, "--json").out)
    assert {answer.model for answer in comparison.answers} == set(SMALL_CNNS)
    sequential, functional = (f"{name}/{newest_version(name)}" for name in ("sequential", "functional"))
    ended = run("compare", CAT, "--model", "sequential", "--model", functional)
    lines = ended.out.splitlines()
    assert ended.code == ExitCode.DONE
    assert [line.split()[0] for line in lines[1:3]] == [sequential, functional]
    assert " of 2 models: " in lines[-1]


def test_explain_draws_a_map_of_the_picture(run: Run) -> None:
    found = Explanation.model_validate_json(run("explain", CAT, "--model", "sequential", "--json").out)
    ended = run("explain", CAT, "--model", "sequential", "--patch", 16, "--stride", 8)
    title, legend, _, *drawn = ended.out.splitlines()
    assert title.startswith(f"sequential version {found.version}: {found.label}, ")
    assert "16 x 16 pixels" in legend
    assert len(drawn) == 16
    assert max(map(len, drawn)) <= 32
    assert "█" in "".join(drawn)
    other = run("explain", CAT, "--model", "sequential", "--class", "ship")
    assert other.out.startswith(f"sequential version {found.version}: ship, ")


@pytest.mark.parametrize("command", ["compare", "explain"])
def test_commands_of_one_image_tell_what_is_wrong_with_it(run: Run, command: str, tmp_path: Path) -> None:
    assert "there is no file missing.png" in run(command, "missing.png").err
    (tmp_path / "text.png").write_text("not an image")
    ended = run(command, tmp_path / "text.png")
    assert ended.code == ExitCode.FAILED
    assert ended.err.startswith("error: the 12 bytes are not a supported image")
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [["models"], ["model", "x"], ["compare", CAT], ["explain", CAT], ["watch", "--count", 1], ["bench", CAT]],
)
def test_every_command_tells_a_wrong_address(run: Run, arguments: list[object]) -> None:
    with scripted_server(HTML) as scripted:
        ended = run(*arguments, "--url", scripted.url)
    assert ended.code == ExitCode.NOT_THE_SERVICE
    assert "was not answered by cifar10-serving: 200 OK with text/html" in ended.err + ended.out


def test_wait_ready_returns_when_the_service_is_ready(run: Run) -> None:
    answers = [http_answer(503, "application/json", LOADING), b"", http_answer(200, "application/json", READY)]
    with scripted_server(*answers) as scripted:
        ended = run("wait-ready", "--url", scripted.url, "--for", 20)
        assert len(scripted.requests) == 3
    assert (ended.code, ended.out) == (ExitCode.DONE, "ready: sequential\n")


def test_wait_ready_reports_the_reason_after_its_time_out(run: Run) -> None:
    with scripted_server(http_answer(503, "application/json", LOADING)) as scripted:
        loading = run("wait-ready", "--url", scripted.url, "--for", 1)
    assert loading.code == ExitCode.NO_ANSWER
    assert "not ready after 1 s: models are being loaded" in loading.err
    absent = run("wait-ready", "--url", f"localhost:{free_port()}", "--for", 0.3)
    assert absent.code == ExitCode.NO_ANSWER
    assert "no connection" in absent.err
    with scripted_server(http_answer(200, "application/json", READY), delay_s=5) as scripted:
        hanging = run("wait-ready", "--url", scripted.url, "--for", 0.3)
    assert hanging.code == ExitCode.NO_ANSWER


def test_watch_goes_on_while_the_service_is_away(run: Run) -> None:
    seen = run("watch", "--count", 2, "--interval", 0.01)
    assert seen.code == ExitCode.DONE
    first, second = seen.out.splitlines()
    assert " ready; " in first
    assert " requests/s, " in second
    away = run("watch", "--count", 2, "--interval", 0.01, "--url", f"localhost:{free_port()}")
    assert away.code == ExitCode.NO_ANSWER
    assert away.out.count("no connection") == 2


def test_bench_measures_in_a_closed_loop(run: Run) -> None:
    ended = run("bench", "--duration", 0.3, "--concurrency", 2, "--model", "sequential")
    assert ended.code == ExitCode.DONE
    assert "closed loop, 2 callers: latencies don't include" in ended.out
    assert "█" in ended.out


def test_bench_sends_at_a_rate_in_an_open_loop(run: Run) -> None:
    with scripted_server(http_answer(200, "application/json", PREDICTED)) as scripted:
        ended = run("bench", CAT, "--rate", 20, "--duration", 0.5, "--url", scripted.url, "--json")
    record = json.loads(ended.out)
    assert ended.code == ExitCode.DONE
    assert record["loop"] == "open"
    assert record["answered"] == 10


@pytest.mark.anyio
async def test_bench_counts_from_when_a_request_was_due_in_an_open_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    monkeypatch.setattr("cifar10_serving.client.commands.bench.time", SimpleNamespace(perf_counter=clock))

    class HeldUp(AsyncClient):
        """Holds up the whole process for a second with its first request."""

        calls = 0

        async def predict(self, *_: object, **__: object) -> Prediction:
            self.calls += 1
            clock.now_s += self.calls == 1
            return PREDICTION

    load = Load(HeldUp(), [b"image"], None, None, duration_s=0.2)
    measured = await load.open_loop(rate_per_s=20)
    assert measured.latencies_s == pytest.approx([1.0, 0.95, 0.9, 0.85])


def test_bench_says_where_it_could_not_send_what_was_due(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar10_serving.client.commands.bench.MAX_OUTSTANDING", 2)
    answer = http_answer(200, "application/json", PREDICTED)
    with scripted_server(answer, delay_s=2) as scripted:
        ended = run("bench", CAT, "--rate", 50, "--duration", 0.2, "--url", scripted.url)
    assert ended.code == ExitCode.PARTLY
    assert ended.out.startswith("open loop, 50 requests/s: latencies count from when a request was due")
    assert "8 not sent, because " in ended.out


def test_compare_of_which_a_model_fails_shows_the_others(run: Run) -> None:
    answered = {"model": "functional", "version": 2, "prediction": PREDICTION.model_dump(), "timings": None}
    problem_document = {"type": "urn:x", "title": "t", "status": 503, "detail": "too much to do"}
    failed = {"model": "vgg16", "version": 1, "error": problem_document}
    agreement = {"label": "cat", "models": 1, "of": 1}
    body = {"answers": [answered, failed], "agreement": agreement, "decode_ms": 1, "model_input": "data:,"}
    with scripted_server(http_answer(200, "application/json", json.dumps(body))) as scripted:
        ended = run("compare", CAT, "--url", scripted.url)
    assert ended.code == ExitCode.PARTLY
    assert "too much to do" in ended.out
    assert "1 of 1 models: cat" in ended.out


def test_bench_counts_what_was_rejected(run: Run) -> None:
    answer = http_answer(200, "application/json", PREDICTED)
    with scripted_server(answer, problem(503, "unavailable")) as scripted:
        ended = run("bench", CAT, "--duration", 0.1, "--concurrency", 1, "--url", scripted.url)
    assert ended.code == ExitCode.NO_ANSWER
    assert " times UnavailableError" in ended.out
    assert "p50" not in ended.out


def test_version_and_help_are_there(run: Run) -> None:
    assert run("--version").out.startswith("cifar10-serving ")
    assert "wait-ready" in run("--help").out
    assert run().code == ExitCode.USAGE
    assert "invalid choice: 'predct'" in run("predct").err
