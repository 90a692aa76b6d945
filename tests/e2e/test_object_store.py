"""Servers that follow an S3 store (moto's server) while versions are published and the store fails: 0 requests lost."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.errors import StoreError
from cifar10_serving.schemas import InstanceStatus
from cifar10_serving.stores.address import parse_address
from cifar10_serving.stores.objects import ObjectStore
from cifar10_serving.stores.publishing import publish_to
from cluster.__main__ import main
from tests.conftest import SAMPLES
from tests.e2e.server import Server, free_port, running_server, wait_for_200
from tests.version_copies import publish_copy
from tests.waiting import wait_until

pytest.importorskip("moto", reason="NOT TESTED: needs moto[server], of the extra dev")
pytest.importorskip("s3fs", reason="NOT TESTED: needs the extra s3")

pytestmark = pytest.mark.slow

STORE = "s3://models-of-tests/prefix"
POLL_INTERVAL_S = 0.5


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of S3's own tools, for this process, too; the secret must not appear in any output."""
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "AWS_ACCESS_KEY_ID": "AKIAOFTHETESTS000000",
        "AWS_SECRET_ACCESS_KEY": "hush-hush-hush",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@contextmanager
def running_store(aws: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start moto's server with an empty bucket."""
    port = aws["AWS_ENDPOINT_URL"].rpartition(":")[2]
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port], stderr=stream, stdout=stream
        )
    try:
        wait_for_200(f"{aws['AWS_ENDPOINT_URL']}/moto-api/")
        bucket = parse_address(STORE).url.split("/")[2]
        httpx.put(f"{aws['AWS_ENDPOINT_URL']}/{bucket}").raise_for_status()
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def steady_requests(servers: list[Server]) -> Iterator[list[list[int]]]:
    """Ask each server all the while; the versions that answered. Each request must get its 200."""
    versions: list[list[int]] = [[] for _ in servers]
    failures: list[str] = []
    over = threading.Event()

    def ask(server: Server, answered: list[int]) -> None:
        with httpx.Client() as client:
            while not over.wait(0.03):
                response = client.post(f"{server.url}/predict", files={"file": SAMPLES[3].file.read_bytes()})
                if response.status_code == 200:
                    answered.append(response.json()["version"])
                else:
                    failures.append(response.text)

    threads = [threading.Thread(target=ask, args=pair) for pair in zip(servers, versions, strict=True)]
    for thread in threads:
        thread.start()
    try:
        yield versions
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []


def status(server: Server) -> InstanceStatus:
    return InstanceStatus.model_validate_json(httpx.get(f"{server.url}/instance").content)


@pytest.mark.cluster  # 20 s of processor time
def test_versions_reach_all_servers_and_the_store_may_fail(
    aws: dict[str, str], one_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = version_folder(one_model, "sequential", 1)
    second, third = (publish_copy(one_model, version) for version in (2, 3))
    log = tmp_path / "store.log"
    with ExitStack() as stack, ExitStack() as store:
        store.enter_context(running_store(aws, log))
        publish_to(STORE, first)
        settings = {
            "CIFAR10_MODELS": STORE,
            "CIFAR10_POLL_INTERVAL_S": str(POLL_INTERVAL_S),
            "HOME": str(tmp_path / "home"),
            **aws,
        }
        servers = [
            stack.enter_context(
                running_server(
                    tmp_path / f"{name}.log",
                    CIFAR10_INSTANCE=name,
                    CIFAR10_MODELS_MIRROR_FOLDER=str(tmp_path / name),
                    **settings,
                )
            )
            for name in ("one", "two")
        ]
        versions = stack.enter_context(steady_requests(servers))
        instances = [option for server in servers for option in ("--url", server.url)]

        def wait_for(version: int) -> float:
            """Wait until both answer with a version; return how long that took."""
            start_s = time.monotonic()
            wait_until(lambda: all(answered[-3:] == [version] * 3 for answered in versions), look_every_s=0.02)
            return time.monotonic() - start_s

        wait_for(1)
        publish_to(STORE, second)
        seconds = wait_for(2)
        with capsys.disabled():
            print(f"\na version answered on both servers {seconds:.1f} s after its upload")
        assert main(["status", *instances, "--models", STORE, "--wait", "60"]) == 0
        assert "all 2 instances have it" in capsys.readouterr().out
        store.close()
        wait_until(lambda: all((known := status(server).store) and known.problem for server in servers))
        wait_for(2)
        assert main(["status", *instances]) == 1
        assert "can't follow the store" in capsys.readouterr().out
        store.enter_context(running_store(aws, log))
        wait_until(lambda: all("no version" in str(status(server).store) for server in servers))
        wait_for(2)
        for folder in (first, second, third):
            publish_to(STORE, folder)
        wait_for(3)
        assert main(["status", *instances, "--expect", "sequential=3", "--wait", "60"]) == 0
        before = log.read_text().count("list-type=2")
        wait_until(lambda: log.read_text().count("list-type=2") >= before + 4)
        looks = log.read_text().splitlines()[-4:]
        assert all("GET /models-of-tests?list-type=2" in look for look in looks), looks
    for name in ("one", "two"):
        text = (tmp_path / f"{name}.log").read_text()
        assert "Traceback" not in text
        assert "hush" not in text
        assert "AKIA" not in text


def test_errors_of_the_store_are_clear(aws: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def error() -> str:
        with pytest.raises(StoreError) as raised:
            ObjectStore(parse_address("s3://no-such-bucket/models")).listing()
        return str(raised.value)

    with running_store(aws, tmp_path / "log"):
        assert "there is no such bucket or folder" in error()
    assert "can't be reached" in error()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "there are no credentials" in error()
