"""A real HAProxy or nginx with the configuration that this project ships, with other addresses."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import pytest

from tests.conftest import ROOT
from tests.e2e.server import free_port

Kind = Literal["haproxy", "nginx"]
FILES: Final[dict[Kind, Path]] = {"haproxy": ROOT / "deploy/haproxy.cfg", "nginx": ROOT / "deploy/nginx.conf"}
SBIN: Final = "/usr/sbin:/usr/local/sbin"
START_TIMEOUT_S: Final = 30


def program(kind: Kind) -> str:
    """Return the program; skip the test without it."""
    found = shutil.which(kind) or shutil.which(kind, path=SBIN)
    if found is None:
        pytest.skip(f"NOT TESTED, no {kind}: install Debian's package {'nginx-light' if kind == 'nginx' else kind}")
    return found


@dataclass(frozen=True)
class Balancer:
    """A running balancer."""

    url: str
    grpc_target: str


def configuration(
    kind: Kind, folder: Path, ports: Sequence[int], own_ports: Sequence[int], grpc_ports: Sequence[int] = (1, 2, 3)
) -> str:
    """Return the shipped configuration with the instances' and the balancer's own ports, all of this machine.

    Args:
        ports: the HTTP ports of the instances, instead of 10.0.0.11 to 13.
        own_ports: the ports for HTTP, gRPC and HAProxy's metrics.
        grpc_ports: the gRPC ports of the instances. HAProxy asks the first one's HTTP port for all of them.
    """
    text = FILES[kind].read_text().replace("http-check connect port 8000", f"http-check connect port {ports[0]}")
    for number, (port, grpc_port) in enumerate(zip(ports, grpc_ports, strict=True), 11):
        for shipped, free in ((8000, port), (8001, grpc_port)):
            assert text.count(f" 10.0.0.{number}:{shipped}") == 1
            text = text.replace(f" 10.0.0.{number}:{shipped}", f" 127.0.0.1:{free}")
    http, grpc, metrics = own_ports
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = [f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
    replacements = {
        "haproxy": {
            "bind :8080": f"bind 127.0.0.1:{http}",
            "bind :8081": f"bind 127.0.0.1:{grpc}",
            ":8404": f":{metrics}",
        },
        "nginx": {
            "listen 8080;": f"listen 127.0.0.1:{http};",
            "listen 8081 ": f"listen 127.0.0.1:{grpc} ",
            "worker_processes auto;": f"worker_processes 1; daemon off; {user}",
            "pid /run/nginx.pid;": f"pid {folder}/pid;",
            "worker_rlimit_nofile 65536;": "",
            "http {": f"http {{ {' '.join(temporary)}",
        },
    }
    for old, new in replacements[kind].items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def command(kind: Kind, file: Path, folder: Path, *, check: bool = False) -> list[str]:
    """Return the command that runs a configuration, or only checks it."""
    if kind == "haproxy":
        return [program(kind), *(["-c"] if check else ["-db"]), "-f", str(file)]
    return [
        program(kind),
        *(["-t"] if check else []),
        "-e",
        str(folder / "error.log"),
        "-p",
        str(folder),
        "-c",
        str(file),
    ]


@contextmanager
def running_balancer(
    kind: Kind, folder: Path, ports: Sequence[int], grpc_ports: Sequence[int] = (1, 2, 3)
) -> Iterator[Balancer]:
    """Run a balancer in front of instances at these ports."""
    own_ports = [free_port() for _ in range(3)]
    file = folder / FILES[kind].name
    file.write_text(configuration(kind, folder, ports, own_ports, grpc_ports))
    with (folder / "balancer.log").open("w") as log:
        process = subprocess.Popen(command(kind, file, folder), stdout=log, stderr=log)
    try:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not _listens(own_ports[0]):
            assert process.poll() is None, (folder / "balancer.log").read_text()
            assert time.monotonic() < deadline_s, f"{kind} does not listen"
            time.sleep(0.05)
        yield Balancer(f"http://127.0.0.1:{own_ports[0]}", f"127.0.0.1:{own_ports[1]}")
    finally:
        process.terminate()
        process.wait(timeout=60)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
