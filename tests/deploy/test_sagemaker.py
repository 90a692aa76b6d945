"""The image's command `serve`, run as SageMaker runs it, but without the image."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx

from tests.conftest import ROOT, SAMPLES, golden_class
from tests.e2e.server import clean_environment, free_port, wait_for_200

SCRIPT = ROOT / "deploy/sagemaker/serve"


def test_image_has_the_command_in_its_path() -> None:
    assert f"COPY {SCRIPT.relative_to(ROOT)} /usr/local/bin/serve" in (ROOT / "Dockerfile").read_text()
    assert f"!{SCRIPT.relative_to(ROOT)}" in (ROOT / ".dockerignore").read_text()
    listed = subprocess.run(
        ["git", "ls-files", "--stage", str(SCRIPT)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert listed.stdout.startswith("100755 ")


def test_command_serves_the_contract_and_stops_on_a_signal(tmp_path: Path, one_model: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    variables = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "CIFAR10_MODELS": str(one_model),
        "CIFAR10_PRECISION": "float32",
    }
    with log.open("w") as stream:
        process = subprocess.Popen([SCRIPT], cwd=ROOT, env=clean_environment() | variables, stderr=stream, text=True)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_200(f"{url}/ping", process, log)
        answered = httpx.post(
            f"{url}/invocations", content=SAMPLES[3].file.read_bytes(), headers={"Content-Type": "image/png"}
        ).json()
        assert answered["class_id"] == golden_class("sequential", SAMPLES[3], version=1)
        process.send_signal(signal.SIGTERM)  # which the shell has to have handed over by exec
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
