import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cifar10_serving.artifacts.metadata import Precision
from cifar10_serving.schemas import VersionState
from service.registry.loading import BoundedCalls, CallsStoppedError, UnresponsiveError
from service.registry.repository import ModelRepository
from tests.fakes import FakeRuntime


@pytest.fixture
def answered() -> Iterator[threading.Event]:
    """Until it is set, a call that waits for it does not return."""
    event = threading.Event()
    yield event
    event.set()


def test_call_gives_what_it_returns_and_raises_what_it_raises() -> None:
    calls = BoundedCalls()
    assert calls.run("a", lambda: 7, 60) == 7
    with pytest.raises(ZeroDivisionError):
        calls.run("a", lambda: 1 / 0, 60)


def test_call_that_hangs_is_given_up_and_not_made_again_until_it_returns(answered: threading.Event) -> None:
    calls = BoundedCalls()
    made: list[int] = []

    def hang() -> None:
        made.append(1)
        answered.wait()

    with pytest.raises(UnresponsiveError, match=r"no response within 0.01 s"):
        calls.run("a", hang, 0.01)
    with pytest.raises(UnresponsiveError, match="still does not respond"):
        calls.run("a", hang, 60)
    assert calls.run("b", lambda: 7, 60) == 7
    assert len(made) == 1
    answered.set()
    while calls.is_under_way("a"):
        pass
    calls.run("a", hang, 60)
    assert len(made) == 2


def test_stop_gives_up_what_waits(answered: threading.Event) -> None:
    calls = BoundedCalls()
    threading.Timer(0.05, calls.stop).start()
    with pytest.raises(CallsStoppedError):
        calls.run("a", answered.wait, 600)


BFLOAT16_IS_FASTER: Mapping[Precision, float] = {"float32": 0.002, "bfloat16": 0.001}
BFLOAT16_IS_SLOWER: Mapping[Precision, float] = {"float32": 0.001, "bfloat16": 0.002}


def change_accuracy(models: Path, precision: str, change: float) -> None:
    """Change a stored test accuracy of sequential version 1."""
    file = models / "sequential" / "1" / "metadata.json"
    content = json.loads(file.read_text())
    for entry in content["evaluations"]:
        if (entry["precision"], entry["split"]) == (precision, "test"):
            entry["accuracy"] += change
    file.write_text(json.dumps(content))


def precision_of(models: Path, runtime: FakeRuntime, max_accuracy_drop: float = 0.001) -> Precision | None:
    """Return the precision in which version 1 is ready."""
    repository = ModelRepository(models, runtime, max_accuracy_drop=max_accuracy_drop)
    repository.load_all()
    found = repository.get("sequential", 1)
    assert found.state is VersionState.READY
    assert found.model is not None
    assert found.precision == found.model.precision
    return found.precision


def test_fastest_precision_serves(one_model: Path) -> None:
    assert precision_of(one_model, FakeRuntime(BFLOAT16_IS_FASTER)) == "bfloat16"
    assert precision_of(one_model, FakeRuntime(BFLOAT16_IS_SLOWER)) == "float32"


@pytest.mark.parametrize("is_measured", [True, False])
def test_precision_that_is_hardly_faster_does_not_serve(one_model: Path, is_measured: bool) -> None:
    runtime = FakeRuntime({"float32": 0.001, "bfloat16": 0.00095}, is_measured=is_measured)
    assert precision_of(one_model, runtime) == "float32"


def test_only_the_fastest_is_loaded_once_all_were_measured(one_model: Path) -> None:
    runtime = FakeRuntime(BFLOAT16_IS_FASTER, is_measured=True)
    assert precision_of(one_model, runtime) == "bfloat16"
    assert runtime.loads == ["bfloat16"]


@pytest.mark.parametrize(("max_accuracy_drop", "expected"), [(0.0005, "float32"), (0.0101, "bfloat16")])
def test_precision_that_is_too_inaccurate_does_not_serve(
    one_model: Path, max_accuracy_drop: float, expected: Precision
) -> None:
    change_accuracy(one_model, "bfloat16", -0.01)
    assert precision_of(one_model, FakeRuntime(BFLOAT16_IS_FASTER), max_accuracy_drop) == expected


def test_precision_without_a_stored_accuracy_does_not_serve(one_model: Path) -> None:
    file = one_model / "sequential" / "1" / "metadata.json"
    content = json.loads(file.read_text())
    content["evaluations"] = [entry for entry in content["evaluations"] if entry["precision"] == "float32"]
    file.write_text(json.dumps(content))
    runtime = FakeRuntime(BFLOAT16_IS_FASTER)
    assert precision_of(one_model, runtime) == "float32"
    assert runtime.loads == ["float32"]


@pytest.mark.parametrize("is_measured", [True, False])
def test_precision_with_other_answers_than_published_does_not_serve(one_model: Path, is_measured: bool) -> None:
    file = one_model / "sequential" / "1" / "metadata.json"
    content = json.loads(file.read_text())
    del content["golden"]["tolerance"]["bfloat16"]
    file.write_text(json.dumps(content))
    assert precision_of(one_model, FakeRuntime(BFLOAT16_IS_FASTER, is_measured=is_measured)) == "float32"


def test_models_say_their_precision_and_its_accuracy(one_model: Path) -> None:
    change_accuracy(one_model, "bfloat16", -0.0005)
    repository = ModelRepository(one_model, FakeRuntime(BFLOAT16_IS_FASTER), max_accuracy_drop=0.001)
    before = repository.status()
    assert before.precision == "float32"
    assert before.models[0].versions[0].precision is None
    repository.load_all()
    listed = repository.status()
    version = listed.models[0].versions[0]
    assert (listed.precision, version.precision) == ("bfloat16", "bfloat16")
    metadata = repository.get("sequential", 1).metadata
    assert metadata is not None
    evaluation = metadata.evaluation("test", "bfloat16", "openvino")
    assert evaluation is not None
    assert version.test_accuracy == evaluation.accuracy
