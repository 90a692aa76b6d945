"""`predict --resume FILE`: one row per image however the run was interrupted; other files are left alone."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest

from cifar10_serving.client import Retries
from cifar10_serving.client._attempts import LONG
from cifar10_serving.client.commands.exit_codes import ExitCode
from tests.cifar10_serving.client.asking import noted
from tests.cifar10_serving.client.commands.conftest import Ended, Run
from tests.cifar10_serving.client.scripted_server import (
    ANSWERED,
    PREDICTION,
    ScriptedServer,
    http_answer,
    problem,
    scripted_server,
)
from tests.conftest import ROOT, SAMPLES
from tests.e2e.server import Server, clean_environment, free_port
from tests.waiting import PATIENCE_S, wait_until

KINDS = ["answers.jsonl", "answers.csv"]
IMAGES = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir()
    names = [f"{number:04}.png" for number in range(IMAGES - 3)]
    for name in [*names, 'new\nline, "quoted".png', "=1+1.png", "b\udcff.png"]:
        (made / name).write_bytes(b"\x89PNG")
    for path in made.iterdir():
        os.utime(path, (1, 1))
    return made


def names_in(file: Path) -> list[str]:
    if file.suffix == ".csv":
        text = file.read_bytes().decode("utf-8", "surrogateescape")
        return [row["file"] for row in csv.DictReader(StringIO(text, newline=""))]
    return [json.loads(line)["file"] for line in file.read_text().splitlines()]


def predict(run: Run, folder: Path, file: Path, url: str, *more: object) -> Ended:
    return run("predict", folder, "--resume", file, "--url", url, "--concurrency", 1, "--retries", 0, *more)


def asked(scripted: ScriptedServer) -> int:
    return sum(max(1, request.count(b'name="files"')) for request in scripted.requests)


@pytest.fixture(params=KINDS)
def whole(request: pytest.FixtureRequest, run: Run, folder: Path, tmp_path: Path) -> Path:
    """The file of a run that nothing stopped."""
    file = tmp_path / f"whole-{request.param}"
    with scripted_server(ANSWERED) as scripted:
        assert predict(run, folder, file, scripted.url).code == ExitCode.DONE
    return file


def test_file_has_a_row_for_each_image_in_order(whole: Path, folder: Path) -> None:
    assert names_in(whole) == sorted(str(path) for path in folder.iterdir())


def test_answered_run_asks_nothing_again(run: Run, whole: Path, folder: Path) -> None:
    content = whole.read_bytes()
    ended = predict(run, folder, whole, f"localhost:{free_port()}")
    assert (ended.code, ended.out) == (ExitCode.DONE, "")
    assert ended.err == f"{IMAGES} of {IMAGES} images were already answered: {whole}\n"
    assert whole.read_bytes() == content


def test_run_that_was_killed_at_any_byte_goes_on(run: Run, whole: Path, folder: Path, tmp_path: Path) -> None:
    content = whole.read_bytes()
    file = tmp_path / whole.name.removeprefix("whole-")
    for cut in [*range(0, len(content), 331), len(content) - 1]:
        file.write_bytes(content[:cut])
        with scripted_server(ANSWERED) as scripted:
            ended = predict(run, folder, file, scripted.url)
            left = asked(scripted)
        assert ended.code == ExitCode.DONE, ended.err
        assert file.read_bytes() == content
        assert len(ended.out.splitlines()) == left


@pytest.mark.parametrize("tail", [b"\0" * 100, b'{"file": "x', b"{"])
def test_torn_end_of_a_lost_disk_is_dropped(run: Run, whole: Path, folder: Path, tail: bytes) -> None:
    content = whole.read_bytes()
    whole.write_bytes(content + tail)
    assert predict(run, folder, whole, f"localhost:{free_port()}").code == ExitCode.DONE
    assert whole.read_bytes() == content


def test_what_failed_is_asked_again_and_stands_in_its_place(
    run: Run, whole: Path, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / whole.name.removeprefix("whole-")
    bad = sorted(folder.iterdir())[5]
    bad.write_bytes(b"")
    with scripted_server(ANSWERED) as scripted:
        assert predict(run, folder, file, scripted.url).code == ExitCode.PARTLY
    assert names_in(file) == names_in(whole)
    bad.write_bytes(b"\x89PNG")
    with scripted_server(ANSWERED) as scripted:
        ended = predict(run, folder, file, scripted.url)
        assert asked(scripted) == 1
    assert ended.code == ExitCode.DONE
    assert file.read_bytes() == whole.read_bytes()


def test_run_whose_service_goes_away_goes_on(
    run: Run, whole: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar10_serving.client._many.BATCH_IMAGES", 4)  # so that two requests are not all
    file = tmp_path / whole.name.removeprefix("whole-")
    with scripted_server(ANSWERED, stop_after=2) as scripted:
        ended = predict(run, folder, file, scripted.url)
        first = asked(scripted)
    assert ended.code == ExitCode.PARTLY
    assert names_in(file) == names_in(whole)[:first]
    with scripted_server(ANSWERED) as scripted:
        assert predict(run, folder, file, scripted.url).code == ExitCode.DONE
        assert asked(scripted) == IMAGES - first
    assert file.read_bytes() == whole.read_bytes()


def test_files_that_came_or_changed_are_asked_about_and_rows_of_those_that_went_stay(
    run: Run, whole: Path, folder: Path
) -> None:
    first, second, *_ = sorted(folder.iterdir())
    first.unlink()
    second.write_bytes(b"\x89PNG")
    os.utime(second, (2**33, 2**33))
    (folder / "zzz.png").write_bytes(b"\x89PNG")
    with scripted_server(ANSWERED) as scripted:
        ended = predict(run, folder, whole, scripted.url)
        assert asked(scripted) == 2
    assert ended.code == ExitCode.DONE
    assert f"{IMAGES - 2} of {IMAGES} images were already answered" in ended.err
    assert "1 rows of" in ended.err
    assert sorted(names_in(whole)) == sorted([str(first), *map(str, folder.iterdir())])


def test_image_that_is_named_twice_has_two_rows(run: Run, folder: Path, tmp_path: Path) -> None:
    image = min(folder.iterdir())
    for file in (tmp_path / kind for kind in KINDS):
        for _ in range(2):
            with scripted_server(ANSWERED) as scripted:
                assert run("predict", image, image, "--resume", file, "--url", scripted.url).code == ExitCode.DONE
            assert names_in(file) == [str(image)] * 2


OTHER = PREDICTION.model_copy(update={"version": 2})
OTHER_ANSWER = http_answer(200, "application/json", OTHER.model_dump_json())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--model", "vgg16"], "has answers of sequential version 1, and this run uses vgg16."),
        (["--version", "2"], "has answers of sequential version 1, and this run uses sequential version 2."),
        ([], "has answers of sequential version 1.* and now sequential version 2 answers"),
    ],
)
def test_other_model_or_version_is_told_and_nothing_is_mixed(
    run: Run, whole: Path, folder: Path, more: list[str], words: str
) -> None:
    lines = whole.read_bytes().splitlines(keepends=True)
    content = b"".join(lines[:5] + lines[6:])  # one image is left to be asked about
    whole.write_bytes(content)
    with scripted_server(OTHER_ANSWER) as scripted:
        ended = predict(run, folder, whole, scripted.url, *more)
        assert bool(scripted.requests) == (not more)
    assert ended.code == ExitCode.FAILED
    assert ended.out == ""
    assert [line for line in ended.err.splitlines() if line.startswith("error: ")] == ended.err.splitlines()[-1:]
    assert re.search(words, ended.err)
    assert whole.read_bytes() == content


FOREIGN = {
    "an image": SAMPLES[0].file.read_bytes(),
    "a text": b"my notes\n",
    "a line without an end": b"my notes",
    "JSON of something else": b'{"a": 1}\n',
    "JSON that is no object": b"[1]\n3\n",
    "a table of something else": b"a,b\n1,2\n",
    "a damaged row": b'{"file": "x", "prediction": {"label": "cat"}, "error": null}\n{"file": "y"}\n',
    "rows about other files": b'{"file": "elsewhere.png", "prediction": null, "error": null}\n',
    "a header and something else": b"file,label,confidence,model,version,true_label,error\nx,cat,1,m\ny,cat,x,m,1,,\n",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
def test_file_of_another_kind_is_told_and_left_as_it_is(
    run: Run, folder: Path, tmp_path: Path, kind: str, content: bytes
) -> None:
    file = tmp_path / kind
    file.write_bytes(content)
    ended = predict(run, folder, file, f"localhost:{free_port()}")
    assert ended.code == ExitCode.FAILED
    assert "name another file" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert file.read_bytes() == content


@pytest.mark.parametrize("name", ["/dev/full", "/dev/null", "images", "no/where", "x" * 300, "pipe", "\0", "", "loop"])
def test_name_that_can_be_no_file_is_one_error(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(folder.parent)
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    ended = predict(run, folder, Path(name) if name not in {"\0", ""} else name, "localhost:1")  # type: ignore[arg-type]
    assert ended.code == ExitCode.FAILED
    assert len(ended.err.splitlines()) == 1


def test_file_that_another_run_writes_is_told(run: Run, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    with scripted_server(ANSWERED, delay_s=30) as scripted, process(scripted.url, folder, file) as running:
        wait_for(lambda: bool(scripted.requests), running)
        ended = predict(run, folder, file, scripted.url)
        running.kill()
    assert ended.code == ExitCode.FAILED
    assert "another run is writing to" in ended.err


def test_standard_input_can_not_be_resumed(run: Run, tmp_path: Path) -> None:
    with scripted_server(ANSWERED) as scripted:
        ended = shell_predict(f"cifar10 predict - --resume {tmp_path / 'x'} < {SAMPLES[0].file}", scripted.url)
    assert ended.returncode == ExitCode.FAILED
    assert "can't be read again" in ended.stderr


def test_standard_output_that_is_the_same_file_gets_no_second_row(folder: Path, whole: Path, tmp_path: Path) -> None:
    file = tmp_path / whole.name.removeprefix("whole-")
    how = "--csv" if file.suffix == ".csv" else "--json"
    with scripted_server(ANSWERED) as scripted:
        for _ in range(2):
            ended = shell_predict(f"cifar10 predict {folder} {how} --resume {file} >> {file}", scripted.url)
            assert ended.returncode == ExitCode.DONE
    assert file.read_bytes() == whole.read_bytes()


def test_full_disk_is_one_error_and_the_next_run_goes_on(
    run: Run, folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / whole.name.removeprefix("whole-")
    write, written = os.write, 0

    def nearly_full(descriptor: int, content: bytes) -> int:
        nonlocal written
        if written > 2000:
            raise OSError(28, "No space left on device")
        written += min(len(content), 50)
        return write(descriptor, content[:50])

    with scripted_server(ANSWERED) as scripted, monkeypatch.context() as patched:
        patched.setattr("cifar10_serving.client.commands.resume.os.write", nearly_full)
        ended = predict(run, folder, file, scripted.url)
    assert ended.code == ExitCode.FAILED
    assert f"error: {file} can't be written: No space left on device" in ended.err
    with scripted_server(ANSWERED) as scripted:
        assert predict(run, folder, file, scripted.url).code == ExitCode.DONE
    assert file.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", KINDS)
def test_stopped_process_loses_no_answer_that_it_wrote_and_goes_on(
    run: Run, folder: Path, tmp_path: Path, stop: signal.Signals, kind: str
) -> None:
    file = tmp_path / kind
    with scripted_server(ANSWERED, delay_s=0.2) as scripted, process(scripted.url, folder, file) as running:
        wait_for(lambda: file.exists() and file.read_bytes().count(b"sequential") >= 3, running)
        running.send_signal(stop)
        err = running.communicate(timeout=30)[1]
    assert "Traceback" not in err
    if stop is signal.SIGINT:
        assert running.returncode == ExitCode.STOPPED
        assert f"of {IMAGES} images were answered; run the same command to continue" in err
    before = len(names_in(file))
    with scripted_server(ANSWERED) as scripted:
        assert predict(run, folder, file, scripted.url).code == ExitCode.DONE
        assert asked(scripted) == IMAGES - before
    assert names_in(file) == sorted(str(path) for path in folder.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_counts_what_was_answered_before(run: Run, server: Server, tmp_path: Path, kind: str) -> None:
    for sample in SAMPLES:
        label = tmp_path / "set" / sample.file.stem.partition("_")[0]
        label.mkdir(parents=True)
        shutil.copy(sample.file, label)
    command = ("predict", tmp_path / "set", "--labels", "from-folder", "--model", "sequential")
    at_once = run(*command).out.partition("\n\n")[2]
    file = tmp_path / kind
    run(*command, "--resume", file)
    for kept in (0, 4, 10):
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(lines[: kept + (kind == "answers.csv")]))
        ended = run(*command, "--resume", file)
        assert ended.code == ExitCode.DONE
        assert at_once in ended.out
    assert {row["true_label"] for row in rows_of(file)} == {path.name for path in (tmp_path / "set").iterdir()}


def rows_of(file: Path) -> list[dict[str, str]]:
    if file.suffix == ".csv":
        return list(csv.DictReader(StringIO(file.read_text())))
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_restarted_service_ends_no_run(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    waits: list[int] = []
    monkeypatch.setattr(Retries, "wait_s", noted(waits, 0.01))
    monkeypatch.setattr("cifar10_serving.client._many.BATCH_IMAGES", 4)  # so that two requests are not all

    def serve() -> None:
        with scripted_server(ANSWERED, port=port, stop_after=2) as first:
            wait_until(lambda: len(first.requests) == 2 or over.is_set())
        wait_until(lambda: max(waits, default=0) > LONG or over.is_set())
        with scripted_server(problem(503, "unavailable", Retry_After="0"), ANSWERED, port=port):
            over.wait(PATIENCE_S)

    over = threading.Event()
    serving = threading.Thread(target=serve)
    serving.start()
    try:
        ended = run("predict", folder, "--json", "--url", f"127.0.0.1:{port}", "--concurrency", 1, "--timeout", 60)
    finally:
        over.set()
        serving.join()
    assert ended.code == ExitCode.DONE
    assert ended.err.startswith("waiting: POST http://127.0.0.1:")
    assert "no connection: " in ended.err
    assert re.search(r"; retrying for up to [1-6]?\d s", ended.err)
    assert len(ended.err.splitlines()) == 1
    assert len(ended.out.splitlines()) == IMAGES


@contextmanager
def process(url: str, folder: Path, file: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [
        sys.executable,
        "-m",
        "cifar10_serving",
        "predict",
        str(folder),
        "--resume",
        str(file),
        "--concurrency",
        "1",
    ]
    environment = clean_environment() | {"CIFAR10_URL": url}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as running:
        yield running


def wait_for(condition: Callable[[], bool], running: "subprocess.Popen[str]") -> None:
    wait_until(lambda: condition() or running.poll() is not None)
    assert running.poll() is None


def shell_predict(command: str, url: str) -> "subprocess.CompletedProcess[str]":
    line = command.replace("cifar10", f"{sys.executable} -m cifar10_serving", 1)
    environment = clean_environment() | {"CIFAR10_URL": url}
    return subprocess.run(
        ["bash", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
