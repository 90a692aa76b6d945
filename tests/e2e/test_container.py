"""The image and the compose file as a user starts them; needs a Docker engine, and skips loudly without one.

CIFAR10_TEST_BUILD_NETWORK=host builds with the host's network, for engines that have none of their own.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.conftest import MODELS, PUBLISHED, ROOT, SAMPLES, golden_class, newest_version
from tests.e2e.server import free_port, wait_for_200, wait_until_ready
from tests.version_copies import publish_copy

PROJECT = "cifar10-serving-test"
MAX_IMAGE_BYTES = 520_000_000


def docker(*arguments: str, check: bool = True, timeout_s: int = 600) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        ["docker", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout_s
    )
    assert result.returncode == 0 or not check, f"docker {' '.join(arguments)}: {result.stdout[-3000:]}{result.stderr}"
    return result


def engine_reason() -> str | None:
    """Return the reason why there is no engine; None if there is one with compose."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    for command in (["version"], ["compose", "version"]):
        result = docker(*command, check=False, timeout_s=30)
        if result.returncode:
            return f"docker {' '.join(command)}: {result.stderr.strip()}"
    return None


REASON = engine_reason()
pytestmark = [
    pytest.mark.container,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(REASON is not None, reason=f"NOT TESTED, no Docker engine: {REASON}"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models folder of this machine, to publish in."""
    folder = tmp_path_factory.mktemp("published") / "models"
    shutil.copytree(MODELS, folder)
    return folder


@pytest.fixture(scope="module")
def compose(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[str], str]]:
    """The compose command of a project that is up, and its URL."""
    port = free_port()
    override = tmp_path_factory.mktemp("compose") / "override.yml"
    network = os.environ.get("CIFAR10_TEST_BUILD_NETWORK", "default")
    override.write_text(json.dumps({"services": {"cpu": {"build": {"network": network}}}}))
    command = ["compose", "-p", PROJECT, "-f", str(ROOT / "docker-compose.yml"), "-f", str(override)]
    os.environ |= {"CIFAR10_PORT": str(port), "CIFAR10_MODELS": str(models)}
    try:
        docker(*command, "up", "--build", "--detach")
        wait_until_ready(f"http://127.0.0.1:{port}")
        yield command, f"http://127.0.0.1:{port}"
    finally:
        docker(*command, "down", "--volumes", "--timeout", "30", check=False)
        del os.environ["CIFAR10_PORT"], os.environ["CIFAR10_MODELS"]


def container_id(command: list[str]) -> str:
    return docker(*command, "ps", "--quiet", "cpu").stdout.strip()


def test_posted_image_gets_its_class(compose: tuple[list[str], str]) -> None:
    for sample in SAMPLES:
        response = httpx.post(
            f"{compose[1]}/predict", files={"file": sample.file.read_bytes()}, params={"model": "sequential"}
        )
        assert response.json()["class_id"] == golden_class("sequential", sample)


def test_container_is_locked_down(compose: tuple[list[str], str]) -> None:
    state = json.loads(docker("inspect", container_id(compose[0])).stdout)[0]
    assert state["Config"]["User"] == "service"
    assert state["HostConfig"]["ReadonlyRootfs"]
    assert state["HostConfig"]["CapDrop"] == ["ALL"]
    identity = docker(*compose[0], "exec", "-T", "cpu", "id", "-u").stdout.strip()
    assert identity == "10001"
    assert docker(*compose[0], "exec", "-T", "cpu", "touch", "/app/x", check=False).returncode != 0


def test_cpu_image_holds_no_tensorflow_and_no_tools(compose: tuple[list[str], str]) -> None:
    program = "import importlib.util as u; print([n for n in ('tensorflow', 'keras', 'training') if u.find_spec(n)])"
    assert docker(*compose[0], "exec", "-T", "cpu", "python", "-c", program).stdout.strip() == "[]"


def test_compiled_models_outlive_the_container(compose: tuple[list[str], str]) -> None:
    deadline_s = time.monotonic() + 60
    listing = ("exec", "-T", "cpu", "ls", "/var/cache/cifar10-serving")
    while docker(*compose[0], *listing).stdout.count(".compiled") < len(PUBLISHED):
        assert time.monotonic() < deadline_s, "not every model was kept within 60 s"
        time.sleep(0.5)
    mounts = json.loads(docker("inspect", container_id(compose[0])).stdout)[0]["Mounts"]
    assert {(mount["Type"], mount["Destination"], mount["RW"]) for mount in mounts} == {
        ("bind", "/app/models", False),
        ("volume", "/var/cache/cifar10-serving", True),
    }


def test_container_is_limited_in_memory_and_processes(compose: tuple[list[str], str]) -> None:
    limits = json.loads(docker("inspect", container_id(compose[0])).stdout)[0]["HostConfig"]
    assert limits["Memory"] == 4 * 2**30
    assert limits["PidsLimit"] == 2048


def test_image_is_small(compose: tuple[list[str], str]) -> None:
    assert json.loads(docker("image", "inspect", "cifar10-serving:cpu").stdout)[0]["Size"] < MAX_IMAGE_BYTES


def test_version_that_is_published_in_the_mounted_folder_serves(compose: tuple[list[str], str], models: Path) -> None:
    newest = newest_version("sequential")
    publish_copy(models, newest + 1, source=newest)
    deadline_s = time.monotonic() + 60
    while httpx.get(f"{compose[1]}/models/sequential").json()["serving_version"] != newest + 1:
        assert time.monotonic() < deadline_s, "the new version does not serve after 60 s"
        time.sleep(0.5)
    answered = httpx.post(
        f"{compose[1]}/predict", files={"file": SAMPLES[3].file.read_bytes()}, params={"model": "sequential"}
    )
    assert answered.json()["version"] == newest + 1
    assert answered.json()["class_id"] == golden_class("sequential", SAMPLES[3])


def test_health_check_passes(compose: tuple[list[str], str]) -> None:
    assert docker(*compose[0], "exec", "-T", "cpu", "python", "-m", "service.healthcheck").returncode == 0
    deadline_s = time.monotonic() + 60
    while json.loads(docker("inspect", container_id(compose[0])).stdout)[0]["State"]["Health"]["Status"] != "healthy":
        assert time.monotonic() < deadline_s, "not healthy within 60 s"
        time.sleep(0.5)


def test_serve_as_the_command_follows_sagemakers_contract(compose: tuple[list[str], str]) -> None:
    port = free_port()
    published = ("--publish", f"127.0.0.1:{port}:8080")
    container = docker(*compose[0], "run", "--detach", "--no-deps", *published, "cpu", "serve").stdout.strip()
    try:
        wait_for_200(f"http://127.0.0.1:{port}/ping")
        answered = httpx.post(
            f"http://127.0.0.1:{port}/invocations",
            content=SAMPLES[3].file.read_bytes(),
            headers={"Content-Type": "image/png", "X-Amzn-SageMaker-Custom-Attributes": "model=sequential"},
        )
        assert answered.json()["class_id"] == golden_class("sequential", SAMPLES[3])
        docker("stop", container)
        assert json.loads(docker("inspect", container).stdout)[0]["State"]["ExitCode"] == 0
    finally:
        docker("rm", "--force", container, check=False)


def test_stop_signal_ends_it_cleanly_and_quickly(compose: tuple[list[str], str]) -> None:
    container = container_id(compose[0])
    docker(*compose[0], "stop", "cpu", timeout_s=25)
    assert json.loads(docker("inspect", container).stdout)[0]["State"]["ExitCode"] == 0


def test_gpu_profile_reserves_an_nvidia_device() -> None:
    result = docker("compose", "-f", str(ROOT / "docker-compose.yml"), "--profile", "gpu", "config", "--format", "json")
    gpu = json.loads(result.stdout)["services"]["gpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert gpu["build"]["target"] == "gpu"


def test_nothing_needless_goes_into_the_image(compose: tuple[list[str], str]) -> None:
    listed = docker(*compose[0], "run", "--rm", "--no-deps", "cpu", "ls", "-A", "/app").stdout.split()
    assert sorted(listed) == ["cifar10_serving", "models", "service"]
    assert Path(ROOT / "training").is_dir()
