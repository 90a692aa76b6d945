from pathlib import Path

import pytest

from tests.training.commands.training_command import last_line, run


@pytest.mark.slow
@pytest.mark.usefixtures("quick_pictures")
def test_report_names_what_it_wrote(one_model: Path, tmp_path: Path) -> None:
    result = run("report", "--models", one_model, "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    written = [Path(line) for line in result.stdout.splitlines()]
    assert {"results.md", "results.html"} <= {file.name for file in written}
    assert all(file.is_file() for file in written)


def test_report_of_nothing_is_a_clear_error(tmp_path: Path) -> None:
    result = run("report", "--models", tmp_path / "absent", "--output", tmp_path)
    assert result.returncode == 1
    assert last_line(result.stderr).startswith("error: ")
    assert "Traceback" not in result.stderr
