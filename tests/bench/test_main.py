import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import main
from tests.conftest import MODELS, ROOT


def test_wrk_that_is_missing_is_named_with_what_to_install(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "bench"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "apt-get install wrk" in result.stderr


def test_help_names_every_server(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    for name in ("ours_bfloat16", "plain_fastapi_2", "litserve", "bentoml", "mlserver", "mlserver_2", "multipart_asgi"):
        assert name in told


def test_a_plan_leaves_nothing_published_out() -> None:
    from bench.__main__ import command_line, plan_from

    parsed = command_line().parse_args(["--models-folder", str(MODELS)])
    plan = plan_from(parsed, ["sequential", "functional"])
    assert plan.models == ("sequential", "functional")
    assert plan.concurrency == (1, 8, 64, 256)
    assert plan.estimate_s > 60


def test_quick_takes_under_ten_minutes_with_all_six_models() -> None:
    from bench.__main__ import command_line, plan_from
    from training.cifar10 import MODEL_NAMES

    assert plan_from(command_line().parse_args(["--quick"]), MODEL_NAMES).estimate_s < 600
