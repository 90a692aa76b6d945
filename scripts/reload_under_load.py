"""Publish and withdraw versions under load, and measure the effect on requests and memory.

    python -m scripts.reload_under_load [--reloads 100] [--clients 4] [--model sequential]

Starts a server on a copy of one version. Each reload publishes that version again under the next number, requests a
reload, waits until the new version answers and the old one is unloaded, and withdraws the old one. Exits with 1 if a
request failed, the p99 while reloading is more than twice the quiet one, or the memory grew by more than 5 %.
"""

import argparse
import http.client
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from cifar10_serving.artifacts.layout import published_versions
from tests.conftest import MODELS, SAMPLES
from tests.e2e.server import running_server
from tests.version_copies import publish_copy, resident_bytes, withdraw

TOKEN = "reload-under-load"  # noqa: S105  # of a server that lives as long as this script
MAX_P99_RATIO = 2.0
MAX_MEMORY_RATIO = 1.05


@dataclass
class Load:
    """Clients that send one request after the other, with their latencies and failures."""

    url: str
    model: str
    latencies_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, clients: int) -> None:
        """Start the clients."""
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the clients."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def p99_ms(self) -> float:
        """Return the 99th percentile since the last call."""
        latencies_s, self.latencies_s = self.latencies_s, []
        return float(np.percentile(latencies_s, 99)) * 1000

    def _ask(self) -> None:
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
        content = SAMPLES[0].file.read_bytes()
        while not self._over.is_set():
            start_s = time.perf_counter()
            try:
                connection.request(
                    "POST", f"/predict?model={self.model}", body=content, headers={"Content-Type": "image/png"}
                )
                response = connection.getresponse()
                body = response.read()
                if response.status != http.HTTPStatus.OK:
                    self.failures.append(f"{response.status} {body.decode()}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            self.latencies_s.append(time.perf_counter() - start_s)


def main() -> int:
    """Run the measurement; return 1 if a limit was exceeded."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--model", default="sequential")
    parser.add_argument("--quiet-s", type=float, default=20.0, help="length of the quiet part, in seconds")
    parser.add_argument("--pause-s", type=float, default=0.5, help="time between two reloads, in seconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return _run(arguments, Path(folder))


def _run(arguments: argparse.Namespace, folder: Path) -> int:
    models, source = folder / "models", published_versions(MODELS, arguments.model)[-1]
    publish_copy(models, 1, name=arguments.model, source=source)
    settings = {"CIFAR10_MODELS": str(models), "CIFAR10_ADMIN_TOKEN": TOKEN, "CIFAR10_LOG_LEVEL": "warning"}
    with running_server(folder / "log", **settings) as server:
        load = Load(server.url, arguments.model)
        load.start(arguments.clients)
        time.sleep(arguments.quiet_s / 4)
        load.p99_ms()  # the warm-up is not counted
        time.sleep(arguments.quiet_s)
        quiet_requests, quiet_ms, before_bytes = (
            len(load.latencies_s),
            load.p99_ms(),
            resident_bytes(server.process.pid),
        )
        reloads_s = []
        for version in range(2, arguments.reloads + 2):
            publish_copy(models, version, name=arguments.model, source=source)
            start_s = time.perf_counter()
            report = reload(server.url)
            reloads_s.append(time.perf_counter() - start_s)
            if f'"version":{version}' not in report:
                load.failures.append(f"version {version} was not loaded: {report}")
            withdraw(models, version - 1, name=arguments.model)
            time.sleep(arguments.pause_s)
        requests, reloading_ms = len(load.latencies_s), load.p99_ms()
        load.stop()
        after_bytes = resident_bytes(server.process.pid)
    print(f"{arguments.reloads} reloads of {arguments.model}, {arguments.clients} clients, one request after the other")
    print(f"failed requests: {len(load.failures)}", *load.failures[:5], sep="\n  ")
    print(f"requests: {quiet_requests} quiet, {requests} while reloading")
    print(f"p99: {quiet_ms:.1f} ms quiet, {reloading_ms:.1f} ms while reloading, ratio {reloading_ms / quiet_ms:.2f}")
    print(f"reload: median {np.median(reloads_s) * 1000:.0f} ms, longest {max(reloads_s) * 1000:.0f} ms")
    print(
        f"memory: {before_bytes / 2**20:.1f} MiB before, {after_bytes / 2**20:.1f} MiB after, "
        f"{after_bytes / before_bytes - 1:+.1%}"
    )
    noticed = reloading_ms > MAX_P99_RATIO * quiet_ms or after_bytes > MAX_MEMORY_RATIO * before_bytes
    return 1 if load.failures or noticed else 0


def reload(url: str) -> str:
    """Request a reload; return the report as JSON."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=120)
    connection.request("POST", "/admin/reload", headers={"Authorization": f"Bearer {TOKEN}"})
    return connection.getresponse().read().decode()


if __name__ == "__main__":
    sys.exit(main())
