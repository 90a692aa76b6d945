"""Measure what following an object store costs: requests, processor time and duration of a look without changes.

    python -m scripts.store_looks [--looks N]

It publishes the clone's versions to moto's S3 server, a process of its own on this machine, mirrors them, and looks N
times more. It needs the packages of the extras s3 and dev.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.layout import published_models, published_versions, version_folder
from cifar10_serving.stores.address import parse_address
from cifar10_serving.stores.publishing import publish_to
from service.registry.models_mirror import ModelsMirror, Selection

ROOT: Final = Path(__file__).resolve().parent.parent
MODELS: Final = ROOT / "models"
BUCKET: Final = "models-of-the-measurement"
ADDRESS: Final = f"s3://{BUCKET}/prefix"
START_LIMIT_S: Final = 60.0


def main() -> int:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description="Measure what following an object store costs.")
    parser.add_argument("--looks", type=int, default=100, metavar="N", help="default: 100")
    looks = parser.parse_args().looks
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    endpoint = f"http://127.0.0.1:{port}"
    os.environ |= {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "measurement",
        "AWS_SECRET_ACCESS_KEY": "measurement",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("wb") as stream:
            server = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port], stdout=stream, stderr=stream
            )
        try:
            _wait_for(endpoint)
            _measure(endpoint, Path(folder), log, looks)
        finally:
            server.kill()
            server.wait()
    return 0


def _measure(endpoint: str, folder: Path, log: Path, looks: int) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")).close()  # noqa: S310
    versions = [(name, version) for name in published_models(MODELS) for version in published_versions(MODELS, name)]
    for name, version in versions:
        publish_to(ADDRESS, version_folder(MODELS, name, version))
    mirror = ModelsMirror(parse_address(ADDRESS), folder / "mirror", Selection(10, "latest(1)"), min_age_s=0)
    start_s = time.monotonic()
    mirror.update()
    while mirror.has_more:
        mirror.update()
    size_bytes = sum(file.stat().st_size for file in mirror.folder.rglob("*") if file.is_file())
    print(f"{len(versions)} versions, {size_bytes / 1e6:.0f} MB mirrored in {time.monotonic() - start_s:.1f} s")
    before, start_s, used_s = _requests(log), time.monotonic(), time.process_time()
    for _ in range(looks):
        mirror.update()
    wall_ms, cpu_ms = (
        (end - begin) * 1e3 / looks
        for end, begin in zip((time.monotonic(), time.process_time()), (start_s, used_s), strict=True)
    )
    requests = (_requests(log) - before) / looks
    print(f"a look without changes: {requests:g} requests, {cpu_ms:.1f} ms of processor time, {wall_ms:.1f} ms")


def _requests(log: Path) -> int:
    return log.read_text(encoding="utf-8").count(" HTTP/1.1")


def _wait_for(endpoint: str) -> None:
    deadline_s = time.monotonic() + START_LIMIT_S
    while True:
        try:
            urllib.request.urlopen(f"{endpoint}/moto-api/").close()  # noqa: S310
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)
        else:
            return


if __name__ == "__main__":
    sys.exit(main())
