import os
import socket
from pathlib import Path

import pytest

from cifar10_serving.artifacts import files as under_test
from cifar10_serving.artifacts.files import UnusableFileError, open_regular, read_regular, regular_files, sha256_regular

OPEN_FILES = Path("/proc/self/fd")
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file in it and one beside it."""
    folder = tmp_path / "version"
    (folder / "plots").mkdir(parents=True)
    (folder / "plots/a.svg").write_bytes(b"content")
    (tmp_path / "secret").write_bytes(b"secret")
    return folder


def test_regular_file_is_read(folder: Path) -> None:
    assert read_regular(folder, "plots/a.svg", max_bytes=7) == b"content"


def make_fifo(file: Path) -> None:
    os.mkfifo(file)


def make_socket(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(file.parent)  # the path of a socket has at most 107 bytes
        try:
            listening.bind(file.name)
        finally:
            os.chdir(here)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_fifo, "a FIFO"),
        (make_socket, "a socket"),
        (lambda file: file.symlink_to("/dev/zero"), "out of the folder"),
        (lambda file: file.symlink_to("../secret"), "out of the folder"),
        (lambda file: file.symlink_to(file.parent.parent / "secret"), "out of the folder"),
        (lambda file: file.mkdir(), "Is a directory"),
        (lambda file: file.symlink_to(file.name), "a link"),
    ],
    ids=["fifo", "socket", "device", "relative link", "absolute link", "folder", "link to itself"],
)
def test_anything_else_is_rejected_without_waiting(folder: Path, make, words: str) -> None:  # type: ignore[no-untyped-def]
    make(folder / "odd")
    with pytest.raises(OSError, match=words):
        read_regular(folder, "odd", max_bytes=10**6)


def test_file_through_a_linked_folder_is_rejected(folder: Path) -> None:
    (folder / "out").symlink_to(folder.parent)
    with pytest.raises(UnusableFileError, match="out of the folder"):
        read_regular(folder, "out/secret", max_bytes=100)


@pytest.mark.parametrize("name", ["../secret", "plots/../../secret", "/etc/passwd", "."])
def test_path_out_of_the_folder_is_rejected(folder: Path, name: str) -> None:
    with pytest.raises(OSError, match=r"out of the folder"):
        read_regular(folder, name, max_bytes=100)


def test_folder_whose_name_begins_alike_is_another_folder(folder: Path) -> None:
    (folder.parent / "version-2").mkdir()
    (folder.parent / "version-2/secret").write_bytes(b"secret")
    with pytest.raises(UnusableFileError, match="out of the folder"):
        read_regular(folder, "../version-2/secret", max_bytes=100)


def test_links_inside_the_folder_are_followed_as_kubernetes_makes_them(folder: Path) -> None:
    (folder / "..2026_11_28").mkdir()
    (folder / "..2026_11_28/serving.json").write_bytes(b"{}")
    (folder / "..data").symlink_to("..2026_11_28")
    (folder / "serving.json").symlink_to("..data/serving.json")
    assert read_regular(folder, "serving.json", max_bytes=2) == b"{}"
    assert set(regular_files(folder)) == {"plots/a.svg", "..2026_11_28/serving.json", "serving.json"}


def test_folder_may_be_a_link_itself(folder: Path) -> None:
    (folder.parent / "7").symlink_to("version")
    assert read_regular(folder.parent / "7", "plots/a.svg", max_bytes=7) == b"content"


def test_link_that_comes_between_looking_and_opening_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.path.realpath

    def look_then_change(path: str | Path) -> str:
        found = look(path)
        if str(path).endswith("a.svg"):
            (folder / "plots/a.svg").unlink()
            (folder / "plots/a.svg").symlink_to("../../secret")
        return found

    monkeypatch.setattr(under_test.os.path, "realpath", look_then_change)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match=r"a link|symbolic links"):
        read_regular(folder, "plots/a.svg", max_bytes=100)


def test_size_is_bounded_before_anything_is_read(folder: Path) -> None:
    with (folder / "sparse").open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(UnusableFileError, match=r"has 1,099,511,627,776 bytes, more than 100"):
        read_regular(folder, "sparse", max_bytes=100)
    assert sha256_regular(folder, "sparse", size_bytes=100) is None


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc")
def test_file_that_says_it_is_empty_and_is_not_is_bounded_too() -> None:
    with pytest.raises(UnusableFileError, match="more than 10"):
        read_regular(Path("/proc/self"), "status", max_bytes=10)
    assert sha256_regular(Path("/proc/self"), "status", size_bytes=0) is None


def test_checksum_is_of_the_whole_file(folder: Path) -> None:
    (folder / "empty").touch()
    assert sha256_regular(folder, "empty", size_bytes=0) == EMPTY_SHA256
    assert sha256_regular(folder, "plots/a.svg", size_bytes=6) is None


@pytest.mark.skipif(not OPEN_FILES.exists(), reason="no /proc")
def test_nothing_stays_open_of_what_is_rejected(folder: Path) -> None:
    make_fifo(folder / "odd")
    before = len(list(OPEN_FILES.iterdir()))
    for _ in range(20):
        with pytest.raises(UnusableFileError):
            open_regular(folder, "odd")
    assert len(list(OPEN_FILES.iterdir())) == before


def test_folder_with_something_odd_or_too_much_is_not_listed(folder: Path) -> None:
    make_fifo(folder / "odd")
    with pytest.raises(UnusableFileError, match="a FIFO"):
        list(regular_files(folder))
    (folder / "odd").unlink()
    (folder / "odd").symlink_to("/")
    with pytest.raises(UnusableFileError, match="out of the folder"):
        list(regular_files(folder))
    (folder / "odd").unlink()
    (folder / "odd").symlink_to(".")
    assert list(regular_files(folder)) == ["plots/a.svg"]
    for number in range(under_test.MAX_ENTRIES):
        (folder / f"plots/{number}").touch()
    with pytest.raises(UnusableFileError, match="holds more than"):
        list(regular_files(folder))
