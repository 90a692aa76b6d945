import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import trials
from bench.environments import OURS, Environment
from bench.loads import LOADS
from bench.servers import SERVERS, Answer, Server
from bench.trials import Bench, prepare, runtime_alone, trial
from tests.conftest import MODELS, ROOT, newest_version

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
MODEL = "sequential"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for .bench/, which a running benchmark may be using."""
    monkeypatch.setattr(trials, "WORK", tmp_path)
    return tmp_path


@pytest.fixture
def prepared(work: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    monkeypatch.setitem(LOADS, "photo", replace(LOADS["photo"], count=4))

    def prepare_loads(**loads: tuple[int, ...]) -> Bench:
        versions = {MODEL: newest_version(MODEL)}
        return prepare(MODELS, versions, seconds=1, loads=loads, photograph_model=MODEL)

    return prepare_loads


def fake(wrong: str = "") -> Server:
    """Return a server that knows the golden answers; `wrong` is the kind of load that it answers wrongly."""
    environment = Environment("fake", ROOT / "requirements/dev.txt", ())
    command = [sys.executable, "-m", "uvicorn", "tests.bench.nearest_golden:app", "--no-access-log"]
    return Server(
        "fake",
        "fake",
        environment,
        lambda start: [*command, "--port", str(start.port)],
        variables=lambda start: {"BENCH_SAVED_MODEL": str(start.saved_model), "BENCH_WRONG": wrong},
        precision="float32",
    )


def test_a_trial_has_the_loads_that_were_asked_for(prepared: Callable[..., Bench]) -> None:
    found = trial(prepared(small=(1, 4), photo=(2,)), fake(), MODEL)
    assert found.failure is None
    assert set(found.loads) == {1, 4}
    assert set(found.photograph_loads) == {"photo"}
    assert set(found.photograph_loads["photo"]) == {2}
    for load in (*found.loads.values(), found.photograph_loads["photo"][2]):
        assert load.requests > 0
        assert load.errors == 0


@pytest.mark.parametrize("kind", ["small", "photo"])
def test_a_wrong_class_ends_the_trial(prepared: Callable[..., Bench], kind: str) -> None:
    found = trial(prepared(small=(1,), photo=(1,)), fake(wrong=kind), MODEL)
    assert "fake with sequential answers class" in (found.failure or "")
    assert found.photograph_loads == {}
    assert bool(found.loads) == (kind == "photo")


def test_the_class_is_checked_after_the_load_too(prepared: Callable[..., Bench]) -> None:
    bench = prepared(small=(1,))
    asked = 0

    def read_answer(content: bytes) -> Answer:
        nonlocal asked
        asked += 1
        answer = SERVERS["ours"].read_answer(content)
        return replace(answer, class_id=(answer.class_id + 1) % 10) if asked > 10 else answer

    found = trial(bench, replace(fake(), read_answer=read_answer), MODEL)
    assert "answers class" in (found.failure or "")
    assert set(found.loads) == {1}


def test_a_model_other_than_that_of_photographs_gets_small_images_only(prepared: Callable[..., Bench]) -> None:
    bench = replace(prepared(photo=(1,)), photograph_model="vgg16")
    found = trial(bench, fake(), MODEL)
    assert (found.failure, found.loads, found.photograph_loads) == (None, {}, {})


def test_the_runtime_alone_is_measured_in_both_layouts(
    prepared: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Environment, "python", Path(sys.executable))
    monkeypatch.setattr(trials, "RUNTIME_BATCHES", (1, 4))
    monkeypatch.setattr(trials, "RUNTIME_SHARE", 0.05)
    assert OURS.python == Path(sys.executable)
    found = runtime_alone(prepared(small=(1,)), MODEL, "float32")
    assert set(found.images_per_s) == set(found.call_a_core_images_per_s) == {1, 4}
    assert min(*found.images_per_s.values(), *found.call_a_core_images_per_s.values()) > 0
