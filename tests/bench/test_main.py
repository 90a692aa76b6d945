import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import available, command_line, main, plan_from
from bench.environments import Environment
from bench.errors import BenchError
from bench.loads import LOADS
from bench.measurements import Machine
from bench.servers import SERVERS
from tests.conftest import MODELS, ROOT
from training.cifar10 import MODEL_NAMES


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
    for name in SERVERS:
        assert name in told
    for name in LOADS:
        assert f"{name}: " in told


def test_a_plan_leaves_nothing_published_out() -> None:
    parsed = command_line().parse_args(["--models-folder", str(MODELS)])
    plan = plan_from(parsed, ["sequential", "functional"])
    assert plan.models == ("sequential", "functional")
    assert plan.servers == tuple(SERVERS)
    assert plan.loads == {"small": (1, 8, 64), "photo": (1, 8, 64), "12mp": (8,)}
    assert plan.estimate_s > 60


def test_a_part_can_be_chosen() -> None:
    options = "--servers triton ours --models vgg16 --loads photo small --concurrency 4 16 --seconds 3 --rounds 2"
    plan = plan_from(command_line().parse_args(options.split()), ["sequential", "vgg16"])
    assert plan.servers == ("triton", "ours")
    assert plan.models == ("vgg16",)
    assert plan.loads == {"photo": (4, 16), "small": (4, 16)}
    assert (plan.seconds, plan.rounds) == (3, 2)
    whole = plan_from(command_line().parse_args([]), ["sequential", "vgg16"])
    assert plan.estimate_s < whole.estimate_s / 10


@pytest.mark.parametrize("options", ["--servers nobody", "--loads small large", "--concurrency 0"])
def test_unknown_part_is_rejected(options: str) -> None:
    with pytest.raises(SystemExit):
        command_line().parse_args(options.split())


def test_unpublished_model_is_rejected() -> None:
    with pytest.raises(BenchError, match="vgg16"):
        plan_from(command_line().parse_args(["--models", "vgg16"]), ["sequential"])


def test_a_cpu_without_bfloat16_needs_no_second_run_of_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.__main__.install", lambda _environment: None)
    machine = Machine(cpu="", cores=2, cpu_features=["avx2"], memory_bytes=0, system="")
    names = ["fastapi_openvino", "fastapi_openvino_default", "ours_bfloat16", "plain_fastapi"]
    servers, unavailable = available(names, machine, [])
    assert [server.name for server in servers] == ["fastapi_openvino", "plain_fastapi"]
    assert set(unavailable) == {"fastapi_openvino_default", "ours_bfloat16"}
    machine = machine.model_copy(update={"cpu_features": ["avx512_bf16"]})
    servers, unavailable = available([names[0], names[1]], machine, [])
    assert ([server.name for server in servers], unavailable) == (names[:2], {})


def test_a_server_that_can_not_be_installed_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def install(environment: Environment) -> None:
        if environment.name == "triton":
            raise BenchError("there is no such Python")

    monkeypatch.setattr("bench.__main__.install", install)
    machine = Machine(cpu="", cores=2, cpu_features=[], memory_bytes=0, system="")
    servers, unavailable = available(["triton", "litserve"], machine, [])
    assert [server.name for server in servers] == ["litserve"]
    assert "no such Python" in unavailable["triton"]
    with pytest.raises(BenchError, match="no such Python"):
        available(["triton"], machine, [])


def test_quick_takes_under_six_minutes_with_all_six_models() -> None:
    assert plan_from(command_line().parse_args(["--quick"]), MODEL_NAMES).estimate_s < 360
