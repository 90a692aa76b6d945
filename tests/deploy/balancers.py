"""A real HAProxy or nginx with the configuration that this project ships, with other addresses."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


def configuration(kind: Kind, folder: Path, ports: Sequence[int], own_ports: Sequence[int]) -> str:
    """Return the shipped configuration with the instances' and the balancer's own ports, all of this machine.

    Args:
        ports: the HTTP ports of the instances, instead of 10.0.0.11 to 13; the gRPC ports are the same.
        own_ports: the ports for HTTP, gRPC and HAProxy's metrics.
    """
    text = FILES[kind].read_text()
    for address, port in zip(("10.0.0.11", "10.0.0.12", "10.0.0.13"), ports, strict=True):
        assert text.count(f" {address}:") == 2
        text = re.sub(rf" {re.escape(address)}:\d+", f" 127.0.0.1:{port}", text)
    replacements = {
        "haproxy": {"bind :8080": "bind 127.0.0.1:{0}", "bind :8081": "bind 127.0.0.1:{1}", ":8404": ":{2}"},
        "nginx": {
            "listen 8080;": "listen 127.0.0.1:{0};",
            "listen 8081 ": "listen 127.0.0.1:{1} ",
            "worker_processes auto;": "worker_processes 1; daemon off; " + ("user root;" if os.geteuid() == 0 else ""),
            "pid /run/nginx.pid;": f"pid {folder}/pid;",
            "worker_rlimit_nofile 65536;": "",
            "http {": "http { "
            + " ".join(
                f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            ),
        },
    }
    for old, new in replacements[kind].items():
        assert text.count(old) == 1, old
        text = text.replace(old, new.format(*own_ports) if "{0}" in new or "{1}" in new or "{2}" in new else new)
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
def running_balancer(kind: Kind, folder: Path, ports: Sequence[int]) -> Iterator[str]:
    """Run a balancer in front of instances at these ports; yield its address."""
    own_ports = [free_port() for _ in range(3)]
    file = folder / FILES[kind].name
    file.write_text(configuration(kind, folder, ports, own_ports))
    with (folder / "balancer.log").open("w") as log:
        process = subprocess.Popen(command(kind, file, folder), stdout=log, stderr=log)
    try:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not _listens(own_ports[0]):
            assert process.poll() is None, (folder / "balancer.log").read_text()
            assert time.monotonic() < deadline_s, f"{kind} does not listen"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{own_ports[0]}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
