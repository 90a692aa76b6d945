"""`python -m cluster deploy`: apply `serve.yaml`, and replace the replicas one after the other."""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import ray
import yaml
from ray import serve
from ray.serve._private.api import serve_start
from ray.serve.config import gRPCOptions
from ray.serve.schema import ServeDeploySchema

CONFIG: Final = Path(__file__).with_name("serve.yaml")
NAMESPACE: Final = "serve"
COULD_NOT_START: Final = 2
HEAD_S: Final = 120.0
"""Time for the head to start."""
LOOK_EVERY_S: Final = 0.5
RUNNING: Final = "RUNNING"
FAILED: Final = "DEPLOY_FAILED"


def main(arguments: Sequence[str]) -> int:
    """Deploy, and wait until the service runs; return 0, or 1 if it doesn't, or 2 without a cluster."""
    parser = argparse.ArgumentParser(prog="python -m cluster deploy", description="Replace the replicas.")
    parser.add_argument("--address", default="auto", help="address of the head (default: that of this machine's Ray)")
    parser.add_argument("--config", type=Path, default=CONFIG, help="configuration (default: cluster/serve.yaml)")
    parser.add_argument("--timeout-s", type=float, default=600.0, help="time to wait (default: %(default)s)")
    parser.add_argument(
        "--first", action="store_true", help="wait until the head has started, and leave what it already runs"
    )
    asked = parser.parse_args(arguments)
    deadline_s = time.monotonic() + asked.timeout_s
    try:
        config = ServeDeploySchema.model_validate(yaml.safe_load(asked.config.read_text(encoding="utf-8")))
        _connect(asked.address, time.monotonic() + (HEAD_S if asked.first else 0.0))
    except (ConnectionError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return COULD_NOT_START
    names = [application.name for application in config.applications]
    if not asked.first or not set(names) <= set(serve.status().applications):  # a head with an external store knows it
        _deploy(config)
    problem = _wait(names, deadline_s)
    ray.shutdown()
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(f"serving on http://{config.http_options.host}:{config.http_options.port}, on every machine", flush=True)
    return 0


def _deploy(config: ServeDeploySchema) -> None:
    for application in config.applications:
        # A difference in the arguments makes Ray replace the replicas, which pick up changes of the code.
        application.args = {**application.args, "deployed_at": f"{time.time():.3f}"}
    client = serve_start(
        http_options=config.http_options.model_dump(),
        proxy_location=config.proxy_location,
        grpc_options=gRPCOptions(**config.grpc_options.model_dump()),
    )
    client.deploy_apps(config, _blocking=False)


def _connect(address: str, deadline_s: float) -> None:
    """Connect to the cluster.

    Raises:
        ConnectionError: there is none at the address.
    """
    while True:
        try:
            ray.init(address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            if time.monotonic() > deadline_s:
                raise ConnectionError(f"there is no cluster at {address}: {error}") from None
            time.sleep(LOOK_EVERY_S)
        else:
            return


def _wait(names: Sequence[str], deadline_s: float) -> str | None:
    """Wait until all applications run with new replicas; return the problem if they don't."""
    status: Any = None
    while time.monotonic() < deadline_s:
        applications = serve.status().applications
        found = [applications[name] for name in names if name in applications]
        for status in found:
            if status.status == FAILED:
                return f"the application is {status.status}: {status.message}"
        if len(found) == len(names) and all(status.status == RUNNING for status in found):
            return None
        time.sleep(LOOK_EVERY_S)
    return f"the application does not run yet: {status.message if status is not None else 'it is not deployed'}"
