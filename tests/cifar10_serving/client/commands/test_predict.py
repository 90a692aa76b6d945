"""`predict`: one row for each image; errors are reported once and in the exit code."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest

from cifar10_serving.client.commands.exit_codes import ExitCode
from tests.cifar10_serving.client.commands.conftest import Run
from tests.cifar10_serving.client.scripted_server import ANSWERED, HTML, http_answer, problem, scripted_server
from tests.conftest import ROOT, SAMPLES, golden_class, newest_version
from tests.e2e.server import Server, clean_environment, free_port

CAT = SAMPLES[3].file
FOLDER = CAT.parent


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """The shipped images in folders named by class, and what a folder holds besides."""
    for sample in SAMPLES:
        folder = tmp_path / "mine" / sample.file.stem.partition("_")[0]
        folder.mkdir(parents=True)
        shutil.copy(sample.file, folder / f"{sample.test_index}.PNG")
    (tmp_path / "mine" / ".hidden").mkdir()
    (tmp_path / "mine" / ".hidden" / "x.png").write_bytes(b"")
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "mine" / "loop").symlink_to(tmp_path / "mine")
    (tmp_path / "mine" / "gone.png").symlink_to("nowhere.png")
    return tmp_path / "mine"


def test_file_is_a_row_of_the_table(run: Run) -> None:
    ended = run("predict", CAT, "--model", "sequential", "--top-k", 2)
    assert ended.code == ExitCode.DONE
    columns = ended.out.split()
    assert columns[0] == str(CAT)
    assert columns[1] == "cat"
    assert columns[4] == f"sequential/{newest_version('sequential')}"
    assert len(ended.out.splitlines()) == 1
    assert ended.err == ""


@pytest.mark.parametrize(
    "named", [[FOLDER], [FOLDER / "*.png"], [ROOT / "tests/**/*_00??.png"], sorted(FOLDER.glob("*.png"))]
)
def test_folders_patterns_and_files_are_the_same_images_in_order(run: Run, named: list[Path]) -> None:
    ended = run("predict", *named, "--model", "sequential", "--json")
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert [row["file"] for row in rows] == [str(sample.file) for sample in SAMPLES]
    assert [row["prediction"]["class_id"] for row in rows] == [golden_class("sequential", sample) for sample in SAMPLES]


def test_standard_input_is_an_image(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(CAT.read_bytes())))
    ended = run("predict", "-", "--json")
    assert json.loads(ended.out)["prediction"]["label"] == "cat"


def test_csv_can_be_read_back(run: Run) -> None:
    ended = run("predict", CAT, "missing, really.png", "--csv")
    rows = list(csv.DictReader(StringIO(ended.out)))
    assert rows[0]["label"] == "cat"
    assert rows[1]["file"] == "missing, really.png"
    assert rows[1]["label"] == ""
    assert "there is no file" in rows[1]["error"]


def test_one_bad_file_spoils_only_its_own_row(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(CAT.read_bytes()[:300])
    ended = run("predict", CAT, broken, "missing.png", CAT)
    lines = ended.out.splitlines()
    assert ended.code == ExitCode.PARTLY
    assert "cat" in lines[0]
    assert "error: " in lines[1]
    assert "error: there is no file missing.png" in lines[2]
    assert "cat" in lines[3]
    assert ended.err == "2 of 4 images answered, 2 failed\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.png"], ExitCode.FAILED, ""),
        (["nothing-*.png"], ExitCode.FAILED, "error: no file matches the pattern 'nothing-*.png'"),
        ([ROOT / "scripts"], ExitCode.FAILED, "contains no image"),
        ([CAT, "--model", "vgg61"], ExitCode.FAILED, "error: there is no model 'vgg61'. Expected: one of"),
        ([FOLDER, "--top-k", "20"], ExitCode.FAILED, "error: top_k = 20"),
        ([CAT, "--top-k", "0"], ExitCode.USAGE, "expected a whole number, 1 or more"),
        ([CAT, "--timeout", "nan"], ExitCode.USAGE, "'nan': expected seconds above 0"),
        ([CAT, "--concurency", "3"], ExitCode.USAGE, "unrecognized arguments: --concurency"),
        ([CAT, "--json", "--csv"], ExitCode.USAGE, "not allowed with"),
        ([CAT, "--token", "two\nlines"], ExitCode.FAILED, "not allowed in a header"),
        ([CAT, "--url", "ftp://x"], ExitCode.USAGE, "'ftp://x' is not"),
        ([], ExitCode.USAGE, "required: FILE"),
    ],
)
def test_what_can_not_be_is_one_line_and_a_code(run: Run, arguments: list[str], code: ExitCode, words: str) -> None:
    ended = run("predict", *arguments)
    assert ended.code == code
    assert words in ended.err
    assert len([line for line in ended.err.splitlines() if "error: " in line]) <= 1


def test_option_before_the_command_is_named(run: Run) -> None:
    ended = run("--url", "http://localhost", "predict", CAT)
    assert ended.code == ExitCode.USAGE
    assert "--url belongs after the command" in ended.err


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (HTML, ExitCode.NOT_THE_SERVICE, "was not answered by cifar10-serving"),
        (problem(401, "unauthorized"), ExitCode.UNAUTHORIZED, "what was wrong"),
        (problem(503, "unavailable"), ExitCode.NO_ANSWER, ""),
        (problem(504, "deadline-passed"), ExitCode.NO_ANSWER, ""),
        (b"", ExitCode.NO_ANSWER, "the connection broke"),
    ],
    ids=["HTML", "wrong key", "overloaded", "too slow", "broken"],
)
def test_what_the_server_answers_is_in_the_code(run: Run, answer: bytes, code: ExitCode, words: str) -> None:
    with scripted_server(answer) as scripted:
        ended = run("predict", FOLDER, "--url", scripted.url, "--retries", 0, "--concurrency", 2)
    assert ended.code == code
    assert words in ended.err
    assert "0 of 10 images answered" in ended.err


def test_nobody_answers_is_said_once(run: Run) -> None:
    ended = run("predict", FOLDER, "--url", f"localhost:{free_port()}", "--retries", 0)
    assert ended.code == ExitCode.NO_ANSWER
    assert ended.out == ""
    assert ended.err.count("no connection") == 1


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for number in range(2000):
        (tmp_path / f"{number:04}.png").write_bytes(b"\x89PNG")
    return tmp_path


@pytest.mark.parametrize("how", ["table", "json"])
def test_server_that_stops_half_way_leaves_what_was_answered(run: Run, many: Path, how: str) -> None:
    with scripted_server(ANSWERED, stop_after=25) as scripted:
        ended = run("predict", many, "--url", scripted.url, "--retries", 1, *(["--json"] if how == "json" else []))
        images = sum(max(1, request.count(b'name="files"')) for request in scripted.requests)
    assert ended.code == ExitCode.PARTLY
    assert ended.err.count("error: ") == 1
    if how == "table":
        answered = len(ended.out.splitlines())
    else:
        rows = [json.loads(line) for line in ended.out.splitlines()]
        assert [Path(row["file"]).stem for row in rows] == [f"{number:04}" for number in range(2000)]
        assert all((row["prediction"] is None) != (row["error"] is None) for row in rows)
        answered = sum(row["prediction"] is not None for row in rows)
    assert answered == images >= 25
    assert f"{answered:,} of 2,000 images answered" in ended.err
    assert " not sent" in ended.err


def test_proxy_of_a_stopped_server_is_given_up_after_as_many_images_as_are_asked_at_a_time(
    run: Run, many: Path
) -> None:
    with scripted_server(ANSWERED, http_answer(502, "text/html", "Bad Gateway")) as scripted:
        ended = run("predict", many, "--url", scripted.url, "--retries", 0, "--concurrency", 1)
        assert len(scripted.requests) <= 10
    assert ended.code == ExitCode.PARTLY
    assert ended.err.count("error: ") == 1
    assert "502 Bad Gateway" in ended.err
    assert " of 2,000 images answered, 1 failed, 1,9" in ended.err


def test_server_that_hangs_is_given_up_after_as_many_images_as_are_asked_at_a_time(run: Run, many: Path) -> None:
    with scripted_server(ANSWERED, delay_s=5) as scripted:
        ended = run("predict", many, "--url", scripted.url, "--timeout", 0.2, "--concurrency", 3)
        assert len(scripted.requests) <= 6
    assert ended.code == ExitCode.NO_ANSWER
    assert ended.err.endswith("0 of 2,000 images answered, 3 failed, 1,997 not sent\n")


def test_folders_named_by_class_give_accuracy_and_confusion_matrix_beside_the_stored_one(
    run: Run, classes: Path
) -> None:
    ended = run("predict", classes, "--labels", "from-folder", "--model", "sequential")
    right = sum(golden_class("sequential", sample) == index for index, sample in enumerate(SAMPLES))
    lines = ended.out.splitlines()
    assert ended.code == ExitCode.DONE
    accuracy = next(line for line in lines if line.startswith("accuracy"))
    assert accuracy.startswith(f"accuracy {right / 10:.4f}: {right} of 10 images, 95 % interval 0.")
    stored = next(line for line in lines if line.startswith("stored"))
    assert "of 10,000 images" in stored
    matrix = {
        line.split()[0]: line.split()[1:] for line in lines if line.endswith(("1", ".")) and len(line.split()) == 11
    }
    assert matrix["cat"] == [".", ".", ".", "1", ".", ".", ".", ".", ".", "."]
    assert sum(row.count("1") for row in matrix.values()) == 10


def test_evaluation_is_for_programs_too(run: Run, classes: Path) -> None:
    ended = run("predict", classes, "--labels", "from-folder", "--model", "sequential", "--json")
    *rows, last = map(json.loads, ended.out.splitlines())
    assert {row["true_label"] for row in rows} == {sample.file.stem.partition("_")[0] for sample in SAMPLES}
    evaluation = last["evaluation"]
    assert evaluation["n"] == sum(map(sum, evaluation["confusion_matrix"])) == 10
    assert evaluation["stored"][0]["n"] == 10_000
    as_csv = run("predict", classes, "--labels", "from-folder", "--model", "sequential", "--csv")
    assert {row["true_label"] for row in csv.DictReader(StringIO(as_csv.out))} == {row["true_label"] for row in rows}
    assert "accuracy" in as_csv.err


def test_folder_that_names_no_class_is_told_before_anything_is_sent(run: Run, tmp_path: Path) -> None:
    (tmp_path / "Cats").mkdir()
    shutil.copy(CAT, tmp_path / "Cats")
    ended = run("predict", tmp_path, "--labels", "from-folder")
    assert ended.code == ExitCode.FAILED
    assert "did you mean 'cat' instead of 'Cats'?" in ended.err
    assert ended.out == ""


def test_file_name_can_not_move_the_cursor(run: Run, tmp_path: Path) -> None:
    evil = tmp_path / "evil\x1b[2J\n.png"
    shutil.copy(CAT, evil)
    ended = run("predict", evil)
    assert "\x1b" not in ended.out
    assert "evil\\x1b[2J\\n.png" in ended.out


@pytest.mark.parametrize(
    ("way", "mark"), [("kitty", "\x1b_Ga=T,f=100"), ("iterm", "\x1b]1337;File=inline=1"), ("blocks", "▀")]
)
def test_thumbnail_is_drawn_where_it_is_asked_for(run: Run, way: str, mark: str) -> None:
    ended = run("predict", CAT, "--thumbnail", way)
    assert mark in ended.out
    assert ended.out.count("▀") == (32 * 16 if way == "blocks" else 0)
    assert ended.out.splitlines()[-1].startswith(str(CAT))


def process(server: Server, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cifar10_serving", *map(str, arguments)],
        cwd=ROOT,
        env=clean_environment() | {"CIFAR10_URL": server.url, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def thousands() -> list[Path]:
    return [sample.file for sample in SAMPLES] * 300


def first_line(running: subprocess.Popen[str]) -> str:
    assert running.stdout
    return running.stdout.readline()


def test_interrupt_ends_with_what_was_answered_and_no_traceback(server: Server, thousands: list[Path]) -> None:
    with process(server, "predict", *thousands, "--model", "sequential") as running:
        assert "airplane" in first_line(running)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=20)
    assert running.returncode == ExitCode.STOPPED
    assert err.startswith("stopped: ")
    assert "of 3,000 images were answered" in err
    assert len(err.splitlines()) == 1


def test_named_pipe_is_an_image(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[CAT.read_bytes()])
    writer.start()
    ended = run("predict", tmp_path / "pipe", "--json")
    writer.join()
    assert json.loads(ended.out)["file"] == str(tmp_path / "pipe")
    assert json.loads(ended.out)["prediction"]["label"] == "cat"


def test_interrupt_ends_the_wait_for_a_named_pipe(server: Server, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with process(server, "predict", tmp_path / "pipe") as running, (tmp_path / "pipe").open("wb"):
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (ExitCode.STOPPED, "stopped\n")


def test_reader_that_goes_away_ends_it_quietly(server: Server, thousands: list[Path]) -> None:
    with process(server, "predict", *thousands, "--model", "sequential") as running:
        first_line(running)
        assert running.stdout
        running.stdout.close()
        assert running.stderr
        err = running.stderr.read()
        running.wait(timeout=20)
    assert (running.returncode, err) == (ExitCode.NO_READER, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' /dev/full")
def test_full_disk_is_one_line(server: Server) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "cifar10_serving", "predict", CAT, "--csv", "--url", server.url],
            cwd=ROOT,
            env=clean_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=20,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (
        ExitCode.FAILED,
        "error: reading or writing failed: No space left on device\n",
    )
