"""The files that folders and patterns select, and the report of skipped files."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar10_serving.client.commands.exit_codes import ExitCode
from tests.cifar10_serving.client.commands.conftest import Ended, Run
from tests.cifar10_serving.client.scripted_server import ANSWERED, scripted_server
from tests.conftest import SAMPLES

CAT = SAMPLES[3].file
ENDINGS = [
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib"),
    *(".heic", ".heif", ".hif", ".avif", ".tif", ".tiff", ".PNG", ".Heic", ".TIFF"),
]


def asked_about(ended: Ended) -> list[str]:
    return [json.loads(line)["file"] for line in ended.out.splitlines()]


def predict(run: Run, *named: object) -> Ended:
    with scripted_server(ANSWERED) as scripted:
        return run("predict", *named, "--json", "--url", scripted.url)


def test_folder_gives_images_of_every_ending(run: Run, tmp_path: Path) -> None:
    for ending in ENDINGS:
        (tmp_path / f"x{ending}").write_bytes(b"bytes")
    ended = predict(run, tmp_path)
    assert asked_about(ended) == sorted(str(tmp_path / f"x{ending}") for ending in ENDINGS)
    assert (ended.code, ended.err) == (ExitCode.DONE, "")


def test_images_without_an_ending_or_with_a_wrong_one_are_told_by_their_content(run: Run, tmp_path: Path) -> None:
    for name in ("download", "photo.txt", "photo.png.part", "IMG_0001.JPG~"):
        shutil.copy(CAT, tmp_path / name)
    (tmp_path / "heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50))
    ended = predict(run, tmp_path)
    assert {Path(file).name for file in asked_about(ended)} == {
        *("download", "photo.txt", "photo.png.part", "IMG_0001.JPG~", "heic")
    }
    assert ended.err == ""


def test_what_a_folder_run_leaves_out_is_said_with_the_reasons(run: Run, tmp_path: Path) -> None:
    shutil.copy(CAT, tmp_path)
    for name in ("a.txt", "b.txt", "c.pdf"):
        (tmp_path / name).write_text("text")
    (tmp_path / "empty").touch()
    (tmp_path / ".DS_Store").write_text("x")
    (tmp_path / ".git" / "objects").mkdir(parents=True)
    shutil.copy(CAT, tmp_path / ".git" / "objects")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "linked.png").symlink_to(CAT)
    os.mkfifo(tmp_path / "pipe.png")
    ended = predict(run, tmp_path)
    assert asked_about(ended) == [str(tmp_path / CAT.name), str(tmp_path / "linked.png")]
    assert ended.code == ExitCode.DONE
    reasons = [
        "3 not images by name or content (.txt 2, .pdf 1)",
        "2 hidden",
        "2 broken links",
        "1 empty and not named as an image",
        "1 link to a folder",
        "1 pipe, socket or device",
    ]
    assert ended.err.startswith("skipped 10 files: 3 not images by name or content (.txt 2, .pdf 1), 2 ")
    assert all(reason in ended.err for reason in reasons)
    assert len(ended.err.splitlines()) == 1


def test_folder_without_an_image_says_what_it_holds(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.jxl").write_bytes(b"\xff\x0a")
    ended = predict(run, tmp_path)
    assert ended.code == ExitCode.FAILED
    assert "contains no image; skipped 1 file: 1 not an image by name or content (.jxl 1). Expected: " in ended.err


def test_image_by_name_that_is_empty_or_no_file_has_its_error_in_its_row(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    shutil.copy(CAT, tmp_path)
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(2**40)
    ended = predict(run, tmp_path)
    errors = {Path(row["file"]).name: row["error"] for row in map(json.loads, ended.out.splitlines())}
    assert "is empty: 0 bytes" in errors["empty.png"]["problem"]
    assert "more than any service accepts" in errors["sparse.png"]["problem"]
    assert errors[CAT.name] is None
    assert ended.code == ExitCode.PARTLY


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """Folders in one another, more than Python's functions may call each other."""
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(sys.getrecursionlimit() + 100):
        os.mkdir("d", dir_fd=here)  # by its number, since no path may be as long
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    yield tmp_path
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # shutil.rmtree calls itself


def test_folders_nested_deeper_than_calls_are_walked(run: Run, deep: Path) -> None:
    (deep / "x.png").write_bytes(b"bytes")
    assert asked_about(predict(run, deep)) == [str(deep / "x.png")]
    for pattern in ("**/*.png", "**"):
        ended = predict(run, f"{deep}/{pattern}")
        assert "error: the pattern" in ended.err or str(deep / "x.png") in asked_about(ended)


def test_pattern_follows_no_links_to_folders_and_finds_no_hidden_files(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a" / ".hidden").mkdir(parents=True)
    for folder in ("a", "a/.hidden"):
        shutil.copy(CAT, tmp_path / folder / "x.png")
        for number in range(3):
            (tmp_path / folder / f"loop{number}").symlink_to(tmp_path)
    found = str(tmp_path / "a" / "x.png")
    for pattern in ("**/*.png", "a/*.png", "**/x.pn?", "*/x.[pq]ng", "**", "a/**", "a/x**"):
        assert asked_about(predict(run, f"{tmp_path}/{pattern}")) == [found], pattern
    hidden = str(tmp_path / "a" / ".hidden" / "x.png")
    assert asked_about(predict(run, f"{tmp_path}/**/.hidden/*.png")) == [hidden]


def test_patterns_are_found_from_where_they_are_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("a.png", "inner/b.png", "inner/[x].png"):
        shutil.copy(CAT, tmp_path / name)
    monkeypatch.chdir(tmp_path / "inner")
    assert asked_about(predict(run, "*.png")) == ["[x].png", "b.png"]
    assert asked_about(predict(run, "../*.png")) == ["../a.png"]
    assert asked_about(predict(run, "[x].png")) == ["[x].png"]
    assert asked_about(predict(run, ".")) == ["[x].png", "b.png"]


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/full", "/dev/null", "socket", "\0.png", "x" * 5000, "a.png/b"])
def test_named_file_that_is_none_is_one_error(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for command in ("predict", "compare", "explain", "bench"):
            ended = run(command, name)
            assert ended.code == ExitCode.FAILED
            assert len((ended.out + ended.err).splitlines()) == 1
            assert any(words in ended.out + ended.err for words in ("is a device", "can't be read", "there is no file"))


def test_empty_name_is_told_and_not_the_whole_folder(run: Run) -> None:
    ended = run("predict", "")
    assert (ended.code, ended.out) == (ExitCode.FAILED, "")
    assert "a file's name is empty" in ended.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_folder_that_may_not_be_read_is_told(run: Run, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    shutil.copy(CAT, tmp_path)
    assert "1 folder that can't be read" in predict(run, tmp_path).err
    assert "can't be read: Permission denied" in predict(run, closed).err
    assert "can't be read: Permission denied" in predict(run, closed / "x.png").out


@pytest.mark.parametrize("how", ["table", "--json", "--csv"])
def test_names_of_any_bytes_are_rows_that_can_be_told_apart(run: Run, tmp_path: Path, how: str) -> None:
    for name in (b"b\xff.png", b"new\nline.png", b"esc\x1b[2J.png", b'comma, "quote".png'):
        shutil.copy(CAT, tmp_path / os.fsdecode(name))
    with scripted_server(ANSWERED) as scripted:
        ended = run("predict", tmp_path, "--url", scripted.url, *([how] if how != "table" else []))
    assert ended.code == ExitCode.DONE
    if how == "--csv":
        assert f'"{tmp_path}/new\nline.png",cat' in ended.out
        assert f'"{tmp_path}/comma, ""quote"".png",cat' in ended.out
    else:
        assert "\x1b" not in ended.out
        assert len(ended.out.splitlines()) == 4
    if how == "--json":
        assert os.fsencode(asked_about(ended)[0]) == os.fsencode(tmp_path) + b"/b\xff.png"
    else:
        assert "b\\udcff.png" in ended.out


def test_no_cell_of_csv_is_a_formula_and_each_name_is_still_the_files(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.png", "+x.png", "-x.png", "@x.png", "\tx.png"]
    for name in names:
        shutil.copy(CAT, name)
    with scripted_server(ANSWERED.replace(b'"label":"cat"', b'"label":"=at"')) as scripted:
        ended = run("predict", ".", "--csv", "--url", scripted.url, "--concurrency", 1)
    rows = [line.split(",") for line in ended.out.splitlines()[1:]]
    assert sorted(Path(row[0]).name for row in rows) == sorted(names)
    assert all(Path(row[0]).exists() for row in rows)
    assert not any(cell[:1] in {"=", "+", "-", "@", "\t"} for row in rows for cell in row if cell)
