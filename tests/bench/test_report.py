from pathlib import Path

import pytest

from bench.__main__ import main
from bench.measurements import read_results
from tests.bench.fake_results import measured_round, overload, results, whole_start

RUN = results(
    measured_round(0, 500, overload=overload(), whole_start=whole_start()),
    measured_round(1, 700),
    measured_round(2, 600),
)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    file = tmp_path / "performance/rounds.json"
    RUN.write(file)
    return file


def test_rounds_are_read_as_they_were_stored(stored: Path) -> None:
    assert read_results(stored) == RUN


def test_the_report_is_written_from_stored_rounds(stored: Path, tmp_path: Path) -> None:
    assert main(["--report", str(stored)]) == 0
    document = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "| cifar10-serving | 1 | 600 | 6.00 | 0.300 | 0.150 | 1.00 | 0.50 | 4.00 | 0.50 | 0 |" in document
    assert "| sequential, concurrency 1: requests/s vs the best alternative | ≥ 3 times | 3.000 times |" in document
    assert "| Sequential CNN | 2.50 | 2.20 | 2.00 | 1.250 | 1.100 |" in document
    for told in (
        "make bench",
        "0123456789ab",
        "a CPU, 2 cores",
        "vgg16",
        "mlserver: it did not install",
        "fastapi 1.0",
    ):
        assert told in document
    plot = (tmp_path / "performance/rates.svg").read_text(encoding="utf-8")
    assert "Sequential CNN" in plot
    assert "plain FastAPI" in plot


def test_the_same_rounds_give_the_same_report(stored: Path, tmp_path: Path) -> None:
    written = []
    for _ in range(2):
        main(["--report", str(stored), "--output", str(tmp_path / "again")])
        folder = tmp_path / "again"
        written.append([file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()])
    assert written[0] == written[1]


def test_a_file_that_is_no_run_is_an_error_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rounds.json").write_text("{}")
    assert main(["--report", str(tmp_path / "rounds.json")]) == 2
    assert main(["--report", str(tmp_path / "nothing.json")]) == 2
    assert capsys.readouterr().err.count("error: ") == 2
