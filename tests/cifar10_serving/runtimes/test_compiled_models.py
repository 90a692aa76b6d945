"""The cache of compiled models, and OpenVINO's use of it with a published version."""

import gc
import logging
import os
import time
import weakref
from pathlib import Path

import pytest

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.runtimes import compiled_models
from cifar10_serving.runtimes.base import Probabilities
from cifar10_serving.runtimes.compiled_models import SUFFIX, CompiledModels, Timing, key_of
from cifar10_serving.runtimes.golden import read_golden
from cifar10_serving.runtimes.machine import usable_cores
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from tests.conftest import MODELS

FOLDER = version_folder(MODELS, "sequential", 1)
TIMING = Timing(one_call_s=0.003, a_core_a_call_s=0.001)
CONTENT = b"\x00content\n" * 100
KEPT_WITHIN_S = 20.0


def _answers(compiled: Path | None) -> Probabilities:
    return OpenVinoRuntime(compiled_models=compiled).load(FOLDER).predict(read_golden(FOLDER / "golden.npz").images)


def _kept(folder: Path) -> Path:
    deadline_s = time.monotonic() + KEPT_WITHIN_S
    while not (files := list(folder.glob(f"*{SUFFIX}"))):
        assert time.monotonic() < deadline_s, f"nothing was kept in {folder}"
        time.sleep(0.01)
    (file,) = files
    return file


def test_what_was_kept_is_found_by_another_process_of_the_same_folder(tmp_path: Path) -> None:
    CompiledModels(tmp_path / "new" / "folder").keep("key", TIMING, CONTENT)
    found = CompiledModels(tmp_path / "new" / "folder").find("key")
    assert found is not None
    for _ in range(2):
        assert (found.timing, found.content.tobytes()) == (TIMING, CONTENT)
        found.release_pages()
    assert CompiledModels(tmp_path / "new" / "folder").find_timing("key") == TIMING
    assert CompiledModels(tmp_path / "new" / "folder").find("other") is None
    assert CompiledModels(tmp_path / "new" / "folder").find_timing("other") is None


def test_without_a_folder_nothing_is_kept() -> None:
    nowhere = CompiledModels(None)
    nowhere.keep("key", TIMING, CONTENT)
    assert not nowhere.is_on
    assert nowhere.find("key") is None
    assert nowhere.find_timing("key") is None


@pytest.mark.parametrize(("cut_bytes", "end"), [(1, b""), (1, b"!"), (900, b""), (1500, b""), (10_000, b"")])
def test_damaged_file_counts_as_not_there(
    tmp_path: Path, cut_bytes: int, end: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    kept = CompiledModels(tmp_path)
    kept.keep("key", TIMING, CONTENT)
    file = _kept(tmp_path)
    file.write_bytes(file.read_bytes()[:-cut_bytes] + end)
    assert kept.find("key") is None
    assert "ignoring " in caplog.text


def test_what_is_no_regular_file_counts_as_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / f"key{SUFFIX}")
    assert CompiledModels(tmp_path).find("key") is None
    assert "is a FIFO" in caplog.text


def test_folder_that_cannot_be_made_keeps_nothing_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.INFO):
        CompiledModels(tmp_path / "file" / "folder").keep("key", TIMING, CONTENT)
    assert "compiled models are not cached" in caplog.text


def test_those_used_longest_ago_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = CompiledModels(tmp_path)
    for age, key in enumerate(("newest", "used", "old")):
        kept.keep(key, TIMING, CONTENT)
        os.utime(tmp_path / f"{key}{SUFFIX}", (1000 - age, 1000 - age))
    assert kept.find("old") is not None  # which uses it
    monkeypatch.setattr(compiled_models, "MAX_FOLDER_BYTES", 3 * (tmp_path / f"used{SUFFIX}").stat().st_size)
    kept.keep("another", TIMING, CONTENT)
    assert [kept.find(key) is not None for key in ("another", "old", "newest", "used")] == [True, True, True, False]


def test_key_is_of_the_content_and_of_the_circumstances(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"model")
    second.write_bytes(b"model")
    assert key_of(first, {"a": "1", "b": "2"}) == key_of(second, {"b": "2", "a": "1"})
    assert key_of(first, {"a": "1"}) != key_of(first, {"a": "2"})
    second.write_bytes(b"model of another version")
    assert key_of(first, {}) != key_of(second, {})


def test_model_from_the_folder_answers_as_the_one_that_was_compiled(tmp_path: Path) -> None:
    expected = _answers(None)
    assert _answers(tmp_path) == pytest.approx(expected, abs=1e-6)
    _kept(tmp_path)
    assert _answers(tmp_path) == pytest.approx(expected, abs=1e-6)


def test_second_load_uses_what_the_first_kept(tmp_path: Path) -> None:
    _answers(tmp_path)
    file = _kept(tmp_path)
    os.utime(file, (1000, 1000))
    inode = file.stat().st_ino
    _answers(tmp_path)
    assert file.stat().st_mtime > 1000
    assert file.stat().st_ino == inode  # a file that is written again has another


def test_content_that_openvino_rejects_is_compiled_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = _answers(tmp_path)
    file = _kept(tmp_path)
    CompiledModels(tmp_path).keep(file.name.removesuffix(SUFFIX), TIMING, b"of a release long ago")
    assert _answers(tmp_path) == pytest.approx(expected, abs=1e-6)
    assert "compiling" in caplog.text
    assert _kept(tmp_path).stat().st_size > 1000


def test_model_goes_with_its_last_reference(tmp_path: Path) -> None:
    _answers(tmp_path)
    _kept(tmp_path)
    gc.disable()  # the service collects garbage rarely: a cycle would keep a model's memory for hours
    try:
        runtime = OpenVinoRuntime(compiled_models=tmp_path)
        models = [runtime.load(FOLDER), OpenVinoRuntime().load(FOLDER)]
        gone = [weakref.ref(model) for model in models]
        models.clear()
        assert [model() for model in gone] == [None, None]
    finally:
        gc.enable()


def test_earlier_loads_time_is_known_to_the_next_process(tmp_path: Path) -> None:
    assert OpenVinoRuntime(compiled_models=tmp_path).measured_image_s(FOLDER, "float32") is None
    model = OpenVinoRuntime(compiled_models=tmp_path).load(FOLDER)
    _kept(tmp_path)
    assert OpenVinoRuntime(compiled_models=tmp_path).measured_image_s(FOLDER, "float32") == model.image_s
    assert OpenVinoRuntime(compiled_models=tmp_path).measured_image_s(tmp_path, "float32") is None


@pytest.mark.parametrize(
    ("one_call_s", "a_core_a_call_s", "pays", "image_s"),
    [
        (0.002, None, True, 0.002),
        (0.002, 0.0015, True, 0.0015),
        (0.002, 0.0024, True, 0.002),
        (0.002, 0.0026, False, 0.002),
    ],
)
def test_concurrent_calls_must_not_be_clearly_slower(
    one_call_s: float, a_core_a_call_s: float | None, pays: bool, image_s: float
) -> None:
    timing = Timing(one_call_s=one_call_s, a_core_a_call_s=a_core_a_call_s)
    assert (timing.splitting_pays, timing.image_s) == (pays, image_s)


def test_cached_graph_was_checked_and_is_checked_again_for_other_allowed_ops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Path] = []
    monkeypatch.setattr(
        "cifar10_serving.runtimes.openvino.check_graph", lambda _stream, _message, file: checked.append(file)
    )
    for _ in range(2):
        _answers(tmp_path)
        _kept(tmp_path)
    assert checked == [FOLDER / "saved_model.pb"]
    monkeypatch.setattr("cifar10_serving.runtimes.openvino.allowed_ops_digest", lambda: "others")
    _answers(tmp_path)
    assert len(checked) == 2


@pytest.mark.skipif(usable_cores() < 2, reason="needs two cores")
def test_quick_model_leaves_a_core_to_http_only_if_there_is_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar10_serving.runtimes.openvino.request_s", lambda: 1.0)  # every model is quick
    monkeypatch.setattr("cifar10_serving.runtimes.compiled_models.WORTH_SPLITTING", 1000.0)
    cores = usable_cores()
    calls = [OpenVinoRuntime(serves_http=serves).load(FOLDER).parallel_calls for serves in (True, False)]
    assert calls == [cores - 1, cores]
