"""The attacked process: start and stop, memory, and the latency of its liveness probe."""

import contextlib
import http.client
import ipaddress
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from cifar10_serving.artifacts.layout import published_models, published_versions, read_metadata, version_folder

ROOT: Final = Path(__file__).resolve().parents[2]
SMALL_PARAMETERS: Final = 1_000_000
START_TIMEOUT_S: Final = 180.0
STOP_TIMEOUT_S: Final = 60.0
PROBE_PAUSE_S: Final = 0.05
PROBE_TIMEOUT_S: Final = 60.0
SAMPLE_PAUSE_S: Final = 0.2
TOKEN: Final = "a-token-of-the-attack"  # noqa: S105  # of a service on loopback that ends with the attack


@dataclass(slots=True)
class Attacked:
    """A service that this program started.

    Args:
        exit_code: set when it has stopped; -9 if it had to be killed.
    """

    process: "subprocess.Popen[bytes]"
    host: str
    port: int
    grpc_port: int
    log: Path
    exit_code: int | None = None


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started_service(models: Path, folder: Path, **settings: str) -> Iterator[Attacked]:
    """Start a service, wait until it is ready, and stop it with SIGTERM.

    Args:
        folder: the folder of its log.
        settings: more environment variables, without their prefix.

    Raises:
        RuntimeError: it doesn't start.
    """
    port, grpc_port, log = free_port(), free_port(), folder / "service.log"
    own = {name: value for name, value in os.environ.items() if not name.startswith("CIFAR10_")}
    given = {"PORT": str(port), "GRPC_PORT": str(grpc_port), "MODELS": str(models), "ADMIN_TOKEN": TOKEN, **settings}
    given.setdefault("COMPILED_MODELS", os.environ.get("CIFAR10_COMPILED_MODELS", "~/.cache/cifar10-serving"))
    variables = own | {f"CIFAR10_{name}": value for name, value in given.items()}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"], cwd=ROOT, env=variables, stdout=stream, stderr=stream
        )
    attacked = Attacked(process, "127.0.0.1", port, grpc_port, log)
    try:
        wait_until_ready(attacked)
        yield attacked
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            attacked.exit_code = process.wait(STOP_TIMEOUT_S)
    finally:
        if process.poll() is None:
            process.kill()
            attacked.exit_code = process.wait()


def wait_until_ready(attacked: Attacked) -> None:
    """Wait until every model has been loaded.

    Raises:
        RuntimeError: it takes too long, or the process ends.
    """
    end_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end_s and attacked.process.poll() is None:
        if status_of(attacked.host, attacked.port, "/readyz") == http.HTTPStatus.OK:
            return
        time.sleep(0.1)
    raise RuntimeError(f"the service did not become ready: {attacked.log.read_text(errors='replace')[-2000:]}")


def status_of(host: str, port: int, path: str, timeout_s: float = 10.0) -> int:
    """Return the status of a GET; 0 without an answer."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return 0
    else:
        return response.status
    finally:
        connection.close()


def memory_bytes(process_id: int) -> int:
    """Return the resident memory of a process and its descendants (Linux)."""
    return sum(_resident_bytes(member) for member in family(process_id))


def virtual_bytes(process_id: int) -> int:
    """Return the size of a process's address space, which `ulimit -v` limits (Linux)."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def family(process_id: int) -> list[int]:
    """List a process and its descendants (Linux)."""
    found = [process_id]
    for member in found:
        try:
            found += map(int, Path(f"/proc/{member}/task/{member}/children").read_text().split())
        except OSError:
            continue  # it has exited
    return found


def descriptors(process_id: int) -> int:
    """Count the open descriptors of a process (Linux); 0 if it has exited."""
    with contextlib.suppress(OSError):
        return sum(1 for _ in Path(f"/proc/{process_id}/fd").iterdir())
    return 0


class MemoryWatch:
    """Context manager that samples the memory of a process.

    Args:
        process_id: None samples nothing.
    """

    def __init__(self, process_id: int | None) -> None:
        self.peak_bytes = 0
        self._process_id = process_id
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while self._process_id is not None and not self._over.wait(SAMPLE_PAUSE_S):
            self.peak_bytes = max(self.peak_bytes, memory_bytes(self._process_id))


@contextmanager
def liveness_watch(host: str, port: int) -> Iterator[list[float]]:
    """Poll `/livez` from a separate process; at the end, the list holds every latency in seconds."""
    latencies_s: list[float] = []
    spawn = multiprocessing.get_context("spawn")  # gRPC's threads don't survive a fork
    ours, theirs = spawn.Pipe()
    probe = spawn.Process(target=_probe, args=(theirs, host, port), daemon=True)
    probe.start()
    try:
        yield latencies_s
        ours.send("over")
        latencies_s += ours.recv()
    finally:
        probe.terminate()
        probe.join()


def _probe(connection: Any, host: str, port: int) -> None:
    latencies_s = []
    while not connection.poll(PROBE_PAUSE_S):
        start_s = time.monotonic()
        status_of(host, port, "/livez", PROBE_TIMEOUT_S)
        latencies_s.append(time.monotonic() - start_s)
    connection.send(latencies_s)


def _resident_bytes(process_id: int) -> int:
    try:
        return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@contextmanager
def folder_or_temporary(given: Path | None) -> Iterator[Path]:
    """Use the given folder, or a temporary one that is deleted afterwards."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        yield Path(name)


def loopback_address(text: str) -> tuple[str, int]:
    """Parse host and port of an address on the loopback interface; no other address may be attacked.

    Raises:
        ValueError: the address is not on the loopback interface.
    """
    address = urlsplit(text)
    host = "127.0.0.1" if address.hostname == "localhost" else address.hostname or ""
    if address.scheme != "http" or not ipaddress.ip_address(host).is_loopback:
        raise ValueError(f"{text} is not http:// with a loopback address")
    return host, address.port or 80


def small_models(folder: Path) -> Path:
    """Create a models folder with the newest version of each small model: they load fast."""
    for name in published_models(ROOT / "models"):
        version = published_versions(ROOT / "models", name)[-1]
        source = version_folder(ROOT / "models", name, version)
        if read_metadata(source).parameters.total <= SMALL_PARAMETERS:
            shutil.copytree(source, version_folder(folder, name, version), dirs_exist_ok=True)
    return folder
