"""The service on two machines, end to end: what a client sees while replicas, machines, the network and the head fail.

The machines are network namespaces (`tests.cluster.machines`), so these tests need root, iproute2 and Ray, and take
several minutes: `pytest tests/cluster/test_two_machines.py --cluster`. They count answers and processor time, never
rates: two machines share the processors of one here. Run them on their own.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster.machines import Machine, two_machines, used_s, why_not
from tests.conftest import COMPILED_MODELS, ROOT, SAMPLES, SMALL_MODELS
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(900)]

HTTP: Final = 8000
ALONE: Final = 8100
RAY: Final = 6379
REDIS: Final = 6380
REPLICA: Final = "ray::ServeReplica"
START_S: Final = 300.0
BACK_S: Final = 30.0
OUTAGE_S: Final = 15
HEADLESS_S: Final = 80
"""Longer than Ray's own limit of 60 s, which `ray.env` extends."""
IMAGE: Final = SAMPLES[0].file
CLIENTS: Final = 64
REQUESTS: Final = 4000
VARIES: Final = frozenset({"date", "x-request-id"})
"""Headers that differ from one answer to the next."""


@dataclass
class Cluster:
    """Two machines, and the folder for their logs."""

    head: Machine
    other: Machine
    folder: Path
    variables: dict[str, str]
    joined_s: list[float] = field(default_factory=list)
    """The times from `join` until the head's HAProxy reached a replica there."""

    def start_head(self) -> None:
        """Start the cluster, and wait until it serves."""
        log = self.folder / "head.log"
        log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "cluster", "start", f"--address={self.head.address}", f"--port={RAY}"]
        process = self.head.run([*command, "--num-cpus=2"], log, self._variables_of(self.head), alone=True)
        deadline_s = time.monotonic() + START_S
        while "serving on" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.2)

    def join(self) -> None:
        """Let the other machine join."""
        command = [sys.executable, "-m", "cluster", "join", f"{self.head.address}:{RAY}"]
        flags = [f"--address={self.other.address}", "--num-cpus=2"]
        start_s = time.monotonic()
        self.other.run([*command, *flags], self.folder / "other.log", self._variables_of(self.other), alone=True)
        wait_until(lambda: self._instance_through(self.head) == "other", look_every_s=0.2)
        self.joined_s.append(round(time.monotonic() - start_s, 1))

    def deploy(self) -> None:
        """Replace all replicas, and wait until that is done."""
        self.head.output(
            [sys.executable, "-m", "cluster", "deploy", f"--address={self.head.address}:{RAY}"], self.variables
        )

    def wait_for_both(self) -> None:
        """Wait until each machine has a replica, and each reaches both."""
        wait_until(
            lambda: len(self.head.pids_of(REPLICA)) == 1 and len(self.other.pids_of(REPLICA)) == 1, look_every_s=0.5
        )
        for machine in (self.head, self.other):
            wait_until(partial(self._reaches_both, machine), look_every_s=0.5)

    def load(self, source: Machine, target: Machine, *options: str, port: int = HTTP) -> "subprocess.Popen[bytes]":
        """Start clients on a machine."""
        command = [sys.executable, "-m", "tests.cluster.load", target.address, str(port), str(IMAGE), *options]
        return subprocess.Popen(
            ["ip", "netns", "exec", source.name, *command], cwd=ROOT, env=self.variables, stdout=subprocess.PIPE
        )

    def _reaches_both(self, machine: Machine) -> bool:
        return {name for _ in range(6) if (name := self._instance_through(machine))} == {"head", "other"}

    def _instance_through(self, machine: Machine) -> str | None:
        try:
            text = machine.output(["curl", "-sSf", "-m", "5", f"http://{machine.address}:{HTTP}/stats"], self.variables)
        except subprocess.CalledProcessError:
            return None
        return str(json.loads(text)["instance"])

    def _variables_of(self, machine: Machine) -> dict[str, str]:
        return self.variables | {"CIFAR10_INSTANCE": "head" if machine is self.head else "other"}


def report_of(load: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Wait for a client, and return what it saw."""
    output, _ = load.communicate(timeout=300)
    report: dict[str, Any] = json.loads(output)
    print(report)
    return report


@contextmanager
def two_machine_cluster(**settings: str) -> Iterator[Cluster]:
    """Yield machines on which nothing runs yet."""
    if (problem := why_not()) is not None:
        pytest.skip(problem)
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray: the extra 'cluster'")
    folder = Path(tempfile.mkdtemp(prefix="c10-"))  # short: Ray keeps sockets there, whose paths have a limit
    own = {name: value for name, value in os.environ.items() if not name.startswith(("CIFAR10_", "RAY_"))}
    variables = own | {
        "CIFAR10_MODELS": str(SMALL_MODELS),
        "CIFAR10_COMPILED_MODELS": str(COMPILED_MODELS),
        "CIFAR10_ACCESS_LOG_SAMPLE_RATE": "0",
        "RAY_TMPDIR": str(folder),
        **settings,
    }
    with two_machines() as (head, other):
        try:
            yield Cluster(head, other, folder, variables)
        finally:
            for name in ("head.log", "other.log"):
                if (folder / name).exists():
                    print(name, (folder / name).read_text()[-2000:])
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Yield a cluster of the head alone."""
    with two_machine_cluster() as machines:
        machines.start_head()
        yield machines


@pytest.fixture(scope="module")
def alone(cluster: Cluster) -> Iterator[int]:
    """Yield the process of a service that runs alone on the head, on another port."""
    variables = cluster.variables | {"CIFAR10_HOST": cluster.head.address, "CIFAR10_PORT": str(ALONE)}
    process = cluster.head.run([sys.executable, "-m", "service"], cluster.folder / "alone.log", variables)
    address = f"http://{cluster.head.address}:{ALONE}/readyz"
    wait_until(lambda: _status(cluster, ["curl", "-sS", "-i", address]) == 200, look_every_s=0.2)
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def both(cluster: Cluster) -> Cluster:
    """Return the cluster with a replica on each machine, whatever the test before has done."""
    if not cluster.other.pids():
        cluster.join()
    cluster.wait_for_both()
    return cluster


@contextmanager
def clients(cluster: Cluster, source: Machine, target: Machine, *options: str) -> Iterator[dict[str, Any]]:
    """Send 100 requests a second while the block runs; fill in the report at its end."""
    options = options or ("--rate", "100")
    report: dict[str, Any] = {}
    load = cluster.load(source, target, *options, "--seconds", "600")
    time.sleep(3)
    yield report
    time.sleep(2)
    load.send_signal(signal.SIGTERM)
    report |= report_of(load)


CURL: Final = ("curl", "-sS", "-i", "-H", "Expect:")
V2: Final = json.dumps(
    {"inputs": [{"name": "images", "shape": [1, 32, 32, 3], "datatype": "UINT8", "data": [7] * 3072}]}
)


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/predict?model=sequential", ("-H", "Content-Type: image/png", "--data-binary", f"@{IMAGE}")),
        ("/predict?model=functional&top_k=10", ("-F", f"file=@{IMAGE}")),
        ("/predict/batch", ("-F", f"files=@{IMAGE}", "-F", f"files=@{SAMPLES[1].file}")),
        ("/predict", ("-H", "Content-Type: image/png", "--data-binary", "@docs/images/page.png")),
        ("/predict", ("-H", "Content-Type: image/png", "--data-binary", "no image")),
        ("/predict?model=unknown", ("-H", "Content-Type: image/png", "--data-binary", f"@{IMAGE}")),
        ("/v2/models/sequential/infer", ("-H", "Content-Type: application/json", "-d", V2)),
        ("/v1/models/sequential:predict", ("-d", json.dumps({"instances": [[[[7, 7, 7]] * 32] * 32]}))),
        ("/v1/models/unknown:predict", ("-d", "{}")),
        ("/models/sequential/versions/1", ()),
        ("/readyz", ()),
        ("/nowhere", ()),
        ("/", ()),
    ],
)
def test_answers_are_those_of_the_service_alone(
    cluster: Cluster, alone: int, path: str, options: tuple[str, ...]
) -> None:
    answers = [
        _answer(cluster, [*CURL, *options, f"http://{cluster.head.address}:{port}{path}"]) for port in (HTTP, ALONE)
    ]
    assert answers[0] == answers[1]


def test_request_takes_at_most_twice_the_processor_time_of_the_service_alone(cluster: Cluster, alone: int) -> None:
    used = {}
    for port in (HTTP, ALONE):
        for requests in (REQUESTS // 4, REQUESTS):  # the first to warm up
            before = cluster.head.processor_s()
            load = cluster.load(
                cluster.other, cluster.head, "--clients", str(CLIENTS), "--requests", str(requests), port=port
            )
            assert report_of(load)["answered"] == requests
            after = cluster.head.processor_s()
            spent = {pid: seconds for pid, seconds in after.items() if (pid == alone) == (port == ALONE)}
            used[port] = used_s(before, spent) / requests
    print({port: f"{1e6 * seconds:.0f} microseconds" for port, seconds in used.items()})
    assert used[HTTP] / used[ALONE] <= 2.0


def test_killed_replica_loses_no_request(both: Cluster) -> None:
    killed = both.other.pids_of(REPLICA)
    with clients(both, both.head, both.head) as report:
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        both.wait_for_both()
    assert (report["answered"], report["outcomes"]) == (report["sent"], {})
    assert not killed & both.other.pids_of(REPLICA)


def test_rolling_update_loses_no_request(both: Cluster) -> None:
    old = both.head.pids_of(REPLICA) | both.other.pids_of(REPLICA)
    with clients(both, both.head, both.head) as report:
        both.deploy()
        both.wait_for_both()
    assert (report["answered"], report["outcomes"]) == (report["sent"], {})
    assert not old & (both.head.pids_of(REPLICA) | both.other.pids_of(REPLICA))


def test_lost_machine_loses_no_request_and_is_back_in_half_a_minute(both: Cluster) -> None:
    with clients(both, both.head, both.head) as report:
        both.other.kill()
        time.sleep(5)
        both.join()
        both.wait_for_both()
    print(f"seconds until the replica of a machine that joined answered: {both.joined_s}")
    assert (report["answered"], report["outcomes"]) == (report["sent"], {})
    # On a busy machine, at least as soon as when it joined for the first time.
    assert both.joined_s[-1] <= max(BACK_S, 1.5 * both.joined_s[0])


def test_cut_network_loses_no_request_of_a_client_that_retries(both: Cluster) -> None:
    with clients(both, both.head, both.head, "--rate", "60", "--retries") as report:
        both.other.cut()
        time.sleep(OUTAGE_S)
        both.other.mend()
        both.wait_for_both()
    assert (report["answered"], report["outcomes"]) == (report["sent"], {})


def test_without_its_head_the_other_machine_goes_on(both: Cluster) -> None:
    with clients(both, both.other, both.other) as report:
        both.head.kill()
        time.sleep(HEADLESS_S)
    both.other.kill()  # the last test with this cluster
    assert (report["answered"], report["outcomes"]) == (report["sent"], {})


def test_head_with_an_external_store_comes_back() -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server")
    with two_machine_cluster(RAY_REDIS_ADDRESS=f"10.86.0.1:{REDIS}") as cluster:
        head, other = cluster.head, cluster.other
        redis = ["redis-server", "--port", str(REDIS), "--bind", head.address, "--protected-mode", "no", "--save", ""]
        head.run([*redis, "--dir", str(cluster.folder)], cluster.folder / "redis.log", cluster.variables)
        cluster.start_head()
        cluster.join()
        cluster.wait_for_both()
        replica = other.pids_of(REPLICA)
        with clients(cluster, other, other) as report:
            head.kill(but="redis-server")
            time.sleep(5)
            cluster.start_head()
            cluster.wait_for_both()
        assert other.pids_of(REPLICA) == replica
        assert (report["answered"], report["outcomes"]) == (report["sent"], {})
        cluster.deploy()  # the head takes orders again
        assert not replica & other.pids_of(REPLICA)


def _answer(cluster: Cluster, command: list[str]) -> tuple[str, set[tuple[str, str]], bytes]:
    """Return the status line, the headers and the body of an answer to curl."""
    head, _, body = cluster.head.output(command, cluster.variables).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)}
    assert len([name for name, _ in headers if name == "x-request-id"]) == 1
    return first, {(name, value) for name, value in headers if name not in VARIES}, body


def _status(cluster: Cluster, command: list[str]) -> int:
    try:
        return int(cluster.head.output(command, cluster.variables).split()[1])
    except subprocess.CalledProcessError:
        return 0
