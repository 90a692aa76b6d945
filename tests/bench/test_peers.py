"""Start the alternatives on OpenVINO, and check their answers. Their environments are large, so tests install none."""

import hashlib
from pathlib import Path

import pytest

from bench import trials
from bench.servers import SERVERS
from bench.trials import prepare, trial
from tests.conftest import MODELS, newest_version

pytestmark = pytest.mark.slow
MODEL = "sequential"


@pytest.mark.parametrize("name", ["fastapi_openvino_default", "fastapi_openvino_2", "triton_default", "triton_2"])
def test_it_starts_answers_with_the_right_classes_and_stops(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = SERVERS[name].environment
    stamp = environment.folder / "requirements.sha256"
    if not stamp.exists() or stamp.read_text() != hashlib.sha256(environment.requirements.read_bytes()).hexdigest():
        pytest.skip(f"{environment.folder} is not installed: python -m bench --servers {name}")
    monkeypatch.setattr(trials, "WORK", tmp_path)
    versions = {MODEL: newest_version(MODEL)}
    bench = prepare(MODELS, versions, seconds=1, loads={"small": ()}, photograph_model=MODEL)
    found = trial(bench, SERVERS[name], MODEL)
    assert found.failure is None
    assert found.rss_loaded_bytes
