"""The shipped configurations of HAProxy and nginx: their numbers, and what they do with failing instances.

CIFAR10_TEST_BALANCERS=1 adds the tests with three real instances, which are killed and restarted under load.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx2 as httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from service.settings import Settings
from tests.conftest import ROOT, SAMPLES
from tests.deploy.balancers import FILES, Kind, command, configuration, running_balancer
from tests.deploy.load import Load
from tests.deploy.stubs import Behaviour, Stub, running_stubs
from tests.e2e.server import clean_environment, free_port, wait_until_ready
from tests.waiting import wait_until

KINDS: tuple[Kind, ...] = ("haproxy", "nginx")
DEFAULTS = {name: info.default for name, info in Settings.model_fields.items()}
IMAGE = SAMPLES[3].file.read_bytes()
REQUESTS_PER_S = 100
IN_THE_IMAGE_S = 3
"""`lame_duck_s` of the image, which the configurations name, too."""


def seconds(kind: Kind, name: str) -> float:
    """The value of a setting in seconds."""
    number, unit = re.findall(rf"^\s+{name}\s+(\d+)(ms|s|)", FILES[kind].read_text(), re.MULTILINE)[0]
    return float(number) / (1000 if unit == "ms" else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_configuration_is_valid(kind: Kind, tmp_path: Path) -> None:
    file = tmp_path / FILES[kind].name
    file.write_text(configuration(kind, tmp_path, (1, 2, 3), [free_port() for _ in range(3)]))
    result = subprocess.run(command(kind, file, tmp_path, check=True), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "warning" not in f"{result.stdout}{result.stderr}".lower()


@pytest.mark.parametrize(
    ("kind", "name", "setting"),
    [
        ("haproxy", "timeout server", "request_timeout_s"),
        ("nginx", "proxy_read_timeout", "request_timeout_s"),
    ],
)
def test_balancers_wait_longer_than_the_service(kind: Kind, name: str, setting: str) -> None:
    assert seconds(kind, name) > DEFAULTS[setting]


@pytest.mark.parametrize("kind", KINDS)
def test_connections_to_instances_are_closed_by_the_balancer_first(kind: Kind) -> None:
    text = FILES[kind].read_text()
    (keep_alive_s,) = re.findall(r"CIFAR10_KEEP_ALIVE_TIMEOUT_S=(\d+)", text)
    assert seconds(kind, "timeout http-keep-alive" if kind == "haproxy" else "keepalive_timeout") < int(keep_alive_s)


@pytest.mark.parametrize("kind", KINDS)
def test_body_limit_is_the_service_s(kind: Kind) -> None:
    pattern = r"content-length\) gt (\d+)" if kind == "haproxy" else r"client_max_body_size (\d+)m;"
    (limit,) = re.findall(pattern, FILES[kind].read_text())
    assert int(limit) * (1 if kind == "haproxy" else 2**20) == DEFAULTS["max_body_bytes"]


def test_haproxy_notices_within_the_lame_duck_phase() -> None:
    text = FILES["haproxy"].read_text()
    checks = {(int(inter), int(fall)) for inter, fall in re.findall(r"inter (\d+)ms fall (\d+)", text)}
    assert all(inter / 1000 * (fall + 1) < IN_THE_IMAGE_S for inter, fall in checks)
    for file in (*FILES.values(), ROOT / "Dockerfile"):
        assert f"CIFAR10_LAME_DUCK_S={IN_THE_IMAGE_S}" in file.read_text()


@dataclass
class Site:
    """A balancer in front of three stubs."""

    address: str
    stubs: list[Stub]
    client: httpx.Client

    def behave(self, *behaviours: Behaviour) -> None:
        for stub, behaviour in zip(self.stubs, behaviours, strict=True):
            stub.behaviour = behaviour
            stub.paths.clear()

    def post(self, content: bytes = IMAGE, path: str = "/predict") -> httpx.Response:
        return self.client.post(f"{self.address}{path}", content=content)


@pytest.fixture(scope="module", params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp(request.param)
    with (
        running_stubs("answers", "answers", "answers") as stubs,
        running_balancer(request.param, folder, [stub.server_port for stub in stubs]) as balancer,
        httpx.Client() as client,
    ):
        yield Site(balancer.url, stubs, client)


@pytest.mark.parametrize("failing", ["overloaded", "silent"])
def test_request_that_fails_on_one_instance_is_answered_by_another(site: Site, failing: Behaviour) -> None:
    site.behave(failing, failing, "answers")
    responses = [site.post() for _ in range(12)]
    assert [(response.status_code, response.content) for response in responses] == [(200, IMAGE)] * 12
    assert site.stubs[0].paths or site.stubs[1].paths
    site.behave("answers", "answers", "answers")


def test_overload_of_every_instance_reaches_the_client_and_shuts_none_out(site: Site) -> None:
    site.behave("overloaded", "overloaded", "overloaded")
    assert {site.post().status_code for _ in range(5)} == {503}
    site.behave("answers", "answers", "answers")
    assert {site.post().status_code for _ in range(12)} == {200}
    assert all(stub.paths for stub in site.stubs)


def test_body_of_any_allowed_size_arrives_and_a_larger_one_is_rejected(site: Site) -> None:
    site.behave("answers", "answers", "answers")
    largest = bytes(DEFAULTS["max_body_bytes"])
    assert site.post(largest).content == largest
    assert site.post(largest + b"x").status_code == 413


@pytest.mark.parametrize("path", ["/metrics", "/admin/reload", "/v2/repository/index", "/%61dmin/reload"])
def test_routes_of_one_instance_are_not_balanced(site: Site, path: str) -> None:
    site.behave("answers", "answers", "answers")
    assert site.post(path=path).status_code == 403
    assert not any(stub.paths for stub in site.stubs)


def test_haproxy_sends_nothing_to_an_instance_that_is_not_ready(tmp_path: Path) -> None:
    with (
        running_stubs("answers", "not ready", "answers") as stubs,
        running_balancer("haproxy", tmp_path, [stub.server_port for stub in stubs]) as balancer,
    ):
        wait_until(lambda: stubs[1].checks > 3)
        stubs[1].paths.clear()
        assert {httpx.post(f"{balancer.url}/predict", content=IMAGE).status_code for _ in range(6)} == {200}
        assert not stubs[1].paths
        assert stubs[0].paths
        assert stubs[2].paths


class GrpcStub(HealthServicer):  # type: ignore[misc]  # its base has no types
    """A gRPC server that only has the health service, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self._server = grpc.server(ThreadPoolExecutor(4))
        health_pb2_grpc.add_HealthServicer_to_server(self, self._server)
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802  # its name in the protocol
        self.calls += 1
        return super().Check(request, context)

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.mark.parametrize("kind", KINDS)
def test_grpc_calls_of_one_connection_are_spread_and_survive_an_instance(kind: Kind, tmp_path: Path) -> None:
    request = health_pb2.HealthCheckRequest()
    with ExitStack() as stack:
        stubs = stack.enter_context(running_stubs("answers", "answers", "answers"))
        servers = [GrpcStub() for _ in range(3)]
        for server in servers:
            stack.callback(server.stop)
        ports = [stub.server_port for stub in stubs]
        balancer = stack.enter_context(running_balancer(kind, tmp_path, ports, [server.port for server in servers]))
        channel = stack.enter_context(grpc.insecure_channel(balancer.grpc_target))
        health = health_pb2_grpc.HealthStub(channel)
        for stopped in (None, 0, 1):
            if stopped is not None:
                servers[stopped].stop()
            for _ in range(9):
                answered = health.Check(request, timeout=30, wait_for_ready=True)
                assert answered.status == health_pb2.HealthCheckResponse.SERVING
            assert all(server.calls for server in servers)


class Instances:
    """Three real instances, each on a port of its own."""

    def __init__(self, folder: Path, models: Path) -> None:
        self._folder = folder
        self._variables = clean_environment() | {
            "CIFAR10_MODELS": str(models),
            "CIFAR10_PRECISION": "float32",
            "CIFAR10_LAME_DUCK_S": str(IN_THE_IMAGE_S),
            "CIFAR10_KEEP_ALIVE_TIMEOUT_S": "75",
            "CIFAR10_ACCESS_LOG_SAMPLE_RATE": "0",
        }
        self.ports = [free_port() for _ in range(3)]
        self.processes = [self._start(index) for index in range(3)]

    def _start(self, index: int) -> "subprocess.Popen[str]":
        with (self._folder / f"log-{index}").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "service", "--port", str(self.ports[index])],
                cwd=ROOT,
                env=self._variables,
                stderr=log,
                text=True,
            )

    def wait_until_ready(self, index: int) -> None:
        wait_until_ready(f"http://127.0.0.1:{self.ports[index]}", self.processes[index], self._folder / f"log-{index}")

    def restart(self, index: int) -> None:
        self.processes[index] = self._start(index)
        self.wait_until_ready(index)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.skipif(
    "CIFAR10_TEST_BALANCERS" not in os.environ,
    reason="NOT TESTED with real instances: set CIFAR10_TEST_BALANCERS=1 (takes some minutes)",
)
@pytest.mark.parametrize("kind", KINDS)
def test_no_request_is_lost_when_instances_die_and_restart(kind: Kind, tmp_path: Path, one_model: Path) -> None:
    with ExitStack() as stack:
        instances = Instances(tmp_path, one_model)
        stack.callback(instances.stop)
        for index in range(3):
            instances.wait_until_ready(index)
        address = stack.enter_context(running_balancer(kind, tmp_path, instances.ports)).url
        wait_until(lambda: httpx.get(f"{address}/readyz").status_code == 200)
        load = stack.enter_context(Load(address, IMAGE, REQUESTS_PER_S))
        time.sleep(3)
        instances.processes[0].kill()
        instances.processes[0].wait()
        time.sleep(3)
        instances.restart(0)
        time.sleep(1)
        killed = load.counts()
        for index in range(3):
            instances.processes[index].send_signal(signal.SIGTERM)
            assert instances.processes[index].wait(60) == 0
            instances.restart(index)
            time.sleep(1)
        load.stop()
        print(f"{kind}: until the restarts {killed}, in all {load.counts()}, slowest {load.slowest_s:.3f} s")
        assert load.counts().keys() == {"200"}
        assert killed["200"] > 6 * REQUESTS_PER_S / 2
