from pathlib import Path

import pytest

from bench.__main__ import main
from bench.measurements import read_results
from tests.bench.fake_results import measured_round, overload, results, trial, whole_start

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
    assert "| cifar10-serving | 1 | 600 | 6.00 | 0.300 | 0.600 | 1.00 | 0.50 | 4.00 | 0.50 | 0 |" in document
    wanted = "requests/s vs the best alternative | ≥ 2.5 times | 3.000 times |"
    assert f"| sequential, float32, concurrency 1: {wanted}" in document
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


def test_each_precision_has_a_table_against_its_best_alternative(stored: Path, tmp_path: Path) -> None:
    main(["--report", str(stored)])
    document = (tmp_path / "performance.md").read_text(encoding="utf-8")
    float32, bfloat16, default = (
        document.partition(f"### {name}\n")[2].partition("\n#")[0] for name in ("float32", "bfloat16", "By default")
    )
    small = "| 32x32 PNG and JPEG | Sequential CNN | 1 | 600 |"
    assert f"{small} plain FastAPI, 2 processes | 200 | 3.00 | 4.00 | 8.00 |" in float32
    assert "| 640x480 JPEG, 48 kB | Sequential CNN | 8 | 300 | FastAPI + OpenVINO | 100 | 3.00 |" in float32
    for part in (bfloat16, default):
        assert f"{small} FastAPI + OpenVINO, default precision | 400 | 1.50 |" in part
    assert "plain FastAPI" not in bfloat16
    assert "Compared with: FastAPI + OpenVINO, default precision, plain FastAPI, plain FastAPI, 2 proc" in default


def test_the_report_says_where_we_lose(tmp_path: Path) -> None:
    results(measured_round(0, 300)).write(tmp_path / "performance/rounds.json")
    main(["--report", str(tmp_path / "performance/rounds.json")])
    document = (tmp_path / "performance.md").read_text(encoding="utf-8")
    lost = document.partition("## Where we lose\n")[2].partition("\n## ")[0]
    best = "0.75 times FastAPI + OpenVINO, default precision"
    assert f"- Sequential CNN, in bfloat16, at concurrency 1: {best}." in lost
    assert f"- Sequential CNN, by default, at concurrency 64: {best}." in lost
    assert "- Sequential CNN, by default, at concurrency 1: 16.00 ms, not 8.00 ms." in lost
    assert "float32" not in lost


def test_where_we_win_everywhere_the_report_says_so(tmp_path: Path) -> None:
    ahead = [trial("ours", "sequential", 300, p50_ms=1), trial("plain_fastapi", "sequential", 100)]
    results(measured_round(0, 300, trials=ahead)).write(tmp_path / "performance/rounds.json")
    main(["--report", str(tmp_path / "performance/rounds.json")])
    document = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "In requests/s: nowhere in this run." in document
    assert "In p99: nowhere in this run." in document


def test_a_cpu_without_bfloat16_is_told(tmp_path: Path) -> None:
    run = results(measured_round(0, 300), cpu_features=["avx2"])
    run.write(tmp_path / "performance/rounds.json")
    main(["--report", str(tmp_path / "performance/rounds.json")])
    assert "This CPU has no bfloat16" in (tmp_path / "performance.md").read_text(encoding="utf-8")


def test_a_run_of_photographs_alone_is_reported(tmp_path: Path) -> None:
    run = results(measured_round(0, 300)).model_copy(update={"concurrency": []})
    run.write(tmp_path / "performance/rounds.json")
    main(["--report", str(tmp_path / "performance/rounds.json")])
    document = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "## 640x480 JPEG, 48 kB\n" in document
    assert "| cifar10-serving | sequential | 8 | 150 | 2.00 | 8.00 | 0 |" in document
    assert "## Sequential CNN" not in document


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
