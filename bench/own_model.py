"""Compare our server with FastAPI + OpenVINO on one published version of any input size, with photographs.

    python -m bench.own_model MODELS_FOLDER NAME [--concurrency 8] [--rounds 3] [--seconds 5]

The servers run in turn at their default settings and get the same 640x480 JPEGs as multipart forms from wrk. They
don't scale photographs down alike, so the classes may differ where a model is not sure; their agreement is printed.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from bench.environments import install
from bench.errors import BenchError
from bench.load import Target, require_wrk, run_wrk
from bench.loads import LOADS
from bench.photographs import enlarged
from bench.servers import OUR_DEFAULT, SERVERS, Server
from bench.trials import IMAGES, WARM_UP_SHARE, ask_all, started
from bench.uploads import BodyKind, Upload, write_bodies
from cifar10_serving.artifacts.layout import published_versions, version_folder
from cifar10_serving.errors import ProjectError

PEERS: Final = ("fastapi_openvino", "fastapi_openvino_2")


def main() -> int:
    """Measure and print the table; return 0, or 1 after an error with a message."""
    parser = argparse.ArgumentParser(description="compare our server with FastAPI + OpenVINO on one version")
    parser.add_argument("models_folder", type=Path, metavar="MODELS_FOLDER")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each load; default: 5")
    arguments = parser.parse_args()
    try:
        _compare(arguments)
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _compare(arguments: argparse.Namespace) -> None:
    require_wrk()
    numbers = published_versions(arguments.models_folder, arguments.name)
    if not numbers:
        raise BenchError(f"no version of {arguments.name} in {arguments.models_folder}")
    version = version_folder(arguments.models_folder, arguments.name, numbers[-1])
    servers = [SERVERS[name] for name in (OUR_DEFAULT, *PEERS)]
    for server in servers:
        install(server.environment)
    uploads = _photographs()
    rates: dict[str, list[float]] = {server.name: [] for server in servers}
    classes: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory(prefix="own-model-") as bodies:
        write_bodies(Path(bodies), uploads, BodyKind.FORM)
        for number in range(arguments.rounds):
            first = number % len(servers)
            for server in servers[first:] + servers[:first]:
                rate, classes[server.name] = _measure(server, version, uploads, Path(bodies), arguments)
                rates[server.name].append(rate)
                print(f"round {number + 1}: {server.title:<40} {rate:8,.0f} requests/s", flush=True)
    for server in servers:
        ratio = statistics.median(a / b for a, b in zip(rates[OUR_DEFAULT], rates[server.name], strict=True))
        same = sum(a == b for a, b in zip(classes[server.name], classes[OUR_DEFAULT], strict=True))
        print(
            f"{server.title:<40} {statistics.median(rates[server.name]):8,.0f} requests/s; ours: {ratio:.2f} times; "
            f"the same class for {same} of {len(uploads)} photographs"
        )


def _measure(
    server: Server, version: Path, uploads: list[Upload], bodies: Path, arguments: argparse.Namespace
) -> tuple[float, list[int]]:
    """Return the requests per second, and the class of each photograph."""
    with started(server, arguments.name, arguments.models_folder, version) as process:
        classes = [answer.class_id for answer in ask_all(server, process, arguments.name, uploads)]
        url = f"http://127.0.0.1:{process.port}{server.path.format(model=arguments.name)}"
        target = Target(url, bodies, len(uploads), server.body.value, server.body.headers)
        run_wrk(target, concurrency=arguments.concurrency, seconds=arguments.seconds * WARM_UP_SHARE)
        load = run_wrk(target, concurrency=arguments.concurrency, seconds=arguments.seconds)
    if load.errors:
        raise BenchError(f"{server.name}: {load.errors} of {load.requests} requests failed")
    return load.requests_per_s, classes


def _photographs() -> list[Upload]:
    form = LOADS["photo"].photographs
    if form is None:
        raise AssertionError("photographs have a form")
    pictures = []
    for file in sorted(IMAGES.glob("*.png")):
        with Image.open(file) as image:
            pictures.append(np.asarray(image.convert("RGB")))
    return enlarged(pictures, form)


if __name__ == "__main__":
    sys.exit(main())
