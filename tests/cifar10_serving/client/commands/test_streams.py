"""Closed, full or broken standard streams, arguments of any bytes, and hostile servers: never a traceback."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cifar10_serving.client.commands.exit_codes import ExitCode
from tests.cifar10_serving.client.commands.conftest import Run
from tests.cifar10_serving.client.scripted_server import ANSWERED, PREDICTION, http_answer, problem, scripted_server
from tests.conftest import ROOT, SAMPLES
from tests.e2e.server import clean_environment
from tests.waiting import wait_until

CAT = SAMPLES[3].file


def shell(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell; `cifar10` is the command line."""
    line = command.replace("cifar10", f"{sys.executable} -m cifar10_serving").replace("CAT", str(CAT))
    ended = subprocess.run(
        ["bash", "-c", line],
        cwd=ROOT,
        env=clean_environment() | variables,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
    return ended


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("cifar10 predict CAT >&-", ExitCode.FAILED, "error: standard output is closed"),
        ("cifar10 models >&- <&-", ExitCode.FAILED, "error: standard output is closed"),
        ("cifar10 models >&- 2>&- <&-", ExitCode.FAILED, ""),
        ("cifar10 predict - <&-", ExitCode.FAILED, "error: standard input is closed"),
        ("cifar10 explain - <&-", ExitCode.FAILED, "error: standard input is closed"),
        ("cifar10 predict CAT 2>&-", ExitCode.DONE, ""),
        ("cifar10 predict nowhere.png 2>&-", ExitCode.FAILED, ""),
        ("cifar10 predict CAT 2>/dev/full", ExitCode.DONE, ""),
        ("cifar10 predict nowhere-* 2>/dev/full", ExitCode.FAILED, ""),
        ("cifar10 predict CAT >/dev/full", ExitCode.FAILED, "No space left on device"),
        ("cifar10 predict CAT CAT --json >/dev/full", ExitCode.FAILED, "No space left on device"),
        ("cifar10 compare CAT >/dev/full", ExitCode.FAILED, ""),
        ("cifar10 --help >/dev/full", ExitCode.DONE, ""),
        ("cifar10 predict --help | true; exit ${PIPESTATUS[0]}", ExitCode.DONE, ""),
        ("cifar10 predict CAT CAT CAT | true; exit ${PIPESTATUS[0]}", ExitCode.NO_READER, ""),
        ("cifar10 predict nowhere-* 2> >(true)", ExitCode.FAILED, ""),
        ("cifar10 predict - < /dev/null", ExitCode.FAILED, ""),
    ],
)
def test_stream_that_is_closed_full_or_broken_is_at_most_a_line(command: str, code: ExitCode, words: str) -> None:
    with scripted_server(ANSWERED) as scripted:
        ended = shell(command, CIFAR10_URL=scripted.url)
    if "compare" not in command:  # which the scripted server doesn't know
        assert ended.returncode == code
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) <= 1


def test_rows_are_written_as_they_come_not_when_the_buffer_is_full(tmp_path: Path) -> None:
    with scripted_server(ANSWERED, delay_s=0.2) as scripted:
        environment = clean_environment() | {"CIFAR10_URL": scripted.url}
        command = [sys.executable, "-m", "cifar10_serving", "predict", *[str(CAT)] * 1000, "--concurrency", "1"]
        for how in ([], ["--json"], ["--csv"]):
            with (
                (tmp_path / "out").open("wb") as out,
                subprocess.Popen([*command, *how], cwd=ROOT, env=environment, stdout=out) as running,
            ):

                def rows_written(running: "subprocess.Popen[bytes]" = running) -> bool:
                    assert running.poll() is None
                    return (tmp_path / "out").read_bytes().count(b"cat_0008.png") >= 3

                wait_until(rows_written)
                running.kill()


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", CAT, "--model", "\udcff"],
        ["predict", CAT, "--version", "\udcff\n"],
        ["predict", CAT, CAT, "--model", "\udcff"],
        ["compare", CAT, "--model", "\udcff/1"],
        ["explain", CAT, "--model", "\udcff"],
        ["model", "\udcff"],
        ["model", ""],
        ["model", ".."],
        ["model", "."],
        ["model", "a/b\x1b[2J"],
    ],
    ids=repr,
)
def test_name_of_any_bytes_is_an_unknown_model(run: Run, arguments: list[object]) -> None:
    ended = run(*arguments)
    assert ended.code == ExitCode.FAILED
    assert "\x1b" not in ended.err
    assert [line for line in ended.err.splitlines() if line.startswith("error: ")] == ended.err.splitlines()[:1]


@pytest.mark.parametrize(
    "arguments",
    [
        *(["watch", "--interval", "1e308"], ["wait-ready", "--for", "1e308"], ["predict", CAT, "--timeout", "1e10"]),
        *(["predict", CAT, "--retries", "9" * 5000], ["predict", CAT, "--concurrency", "1" + "0" * 8]),
        *(["bench", "--rate", "1e7"], ["bench", "--rate", "inf"], ["bench", "--concurrency", "100000"]),
        *(["predict", CAT, "--url", "http://me:s3cret@x:port"], ["predict", CAT, "--wrong\x1b[2J"], ["\udcff"]),
    ],
    ids=repr,
)
def test_value_that_can_not_be_is_told_by_the_usage(run: Run, arguments: list[object]) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert "\x1b" not in ended.err
    assert "s3cret" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "close"),
    [
        (["predict", CAT, "--model", "sequentail"], "sequential"),
        (["predict", CAT, "--model", "Functional"], "functional"),
        (["predict", CAT, CAT, "--model", "sequentail"], "sequential"),
        (["compare", CAT, "--model", "functional", "--model", "sequencial/2"], "sequential"),
        (["explain", CAT, "--model", "subclasing"], "subclassing"),
        (["model", "functionl"], "functional"),
        (["model", "functionl", "--version", "1"], "functional"),
        (["predict", CAT, "--model", "xyz"], None),
    ],
    ids=repr,
)
def test_misspelt_model_brings_the_close_one(run: Run, arguments: list[object], close: str | None) -> None:
    err = run(*arguments).err
    assert err.count("did you mean") == (close is not None)
    assert close is None or f"did you mean '{close}'?\n" in err


HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b2J\r\n"


@pytest.mark.parametrize("how", [[], ["--json"], ["--csv"]], ids=["table", "json", "csv"])
def test_text_of_a_server_can_not_move_the_cursor(run: Run, how: list[str]) -> None:
    prediction = PREDICTION.model_dump() | {"label": HOSTILE, "model": HOSTILE}
    answers = http_answer(200, "application/json", json.dumps(prediction))
    detail = problem(400, "invalid-request").replace(b"what was wrong", json.dumps(HOSTILE)[1:-1].encode())
    for answer in (answers, detail.replace(b"Content-Length: ", b"X: ")):
        with scripted_server(answer) as scripted:
            ended = run("predict", CAT, *how, "--url", scripted.url, "--retries", 0)
        shown = ended.err if how == ["--csv"] else ended.out + ended.err
        assert not any(character in shown for character in "\x1b\x07\x9b\r")


@pytest.mark.parametrize(
    "rows", [[], [[]], [[0.5]], [[0.1, 0.2, 0.3]] * 3, [[0.1], [0.1, 0.5]], [[-1.0] * 4] * 5], ids=len
)
def test_map_of_any_size_is_drawn(run: Run, rows: list[list[float]]) -> None:
    answer = {
        "model": "sequential",
        "version": 1,
        "label": "cat",
        "class_id": 3,
        "confidence": 0.5,
        "images": 1,
        "patch_pixels": 8,
        "stride_pixels": 4,
        "importance": rows,
    }
    with scripted_server(http_answer(200, "application/json", json.dumps(answer))) as scripted:
        ended = run("explain", CAT, "--url", scripted.url)
    assert ended.code == ExitCode.DONE
    assert ended.out.startswith("sequential version 1: cat, 50.0 %")


def test_second_interrupt_ends_it_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with scripted_server(ANSWERED, delay_s=30) as scripted:
        environment = clean_environment() | {"CIFAR10_URL": scripted.url}
        command = [sys.executable, "-m", "cifar10_serving", "predict", str(CAT), str(CAT)]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as running:
            wait_until(lambda: scripted.requests or running.poll() is not None)
            assert running.poll() is None
            running.send_signal(signal.SIGINT)
            running.send_signal(signal.SIGINT)
            err = running.communicate(timeout=30)[1]
    assert running.returncode in {ExitCode.STOPPED, -signal.SIGINT}
    assert "Traceback" not in err
