"""Closed-loop load from wrk: each connection sends the next varied upload after the previous answer.

As from curl and browsers, each form has a boundary and a file name of its own. Builds the command, runs it and parses
the line of JSON that load.lua prints. `bench.open_loop` has open-loop load.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from bench.errors import BenchError
from bench.measurements import Load
from bench.uploads import PLACEHOLDER

SCRIPT: Final = Path(__file__).with_name("load.lua")
MARK: Final = "bench-json: "
ANSWER_TIMEOUT_S: Final = 30
"""Later answers count as errors; with wrk's default of 2 s, slow answers would count as errors."""


@dataclass(frozen=True)
class Target:
    """The URL of the requests, the folder with their bodies, and their headers.

    PLACEHOLDER in bodies and headers is replaced in each request.
    """

    url: str
    bodies: Path
    body_count: int
    content_type: str
    other_headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def header_lines(self) -> list[str]:
        """All headers, each as NAME:VALUE."""
        return [f"{name}:{value}" for name, value in {"Content-Type": self.content_type, **self.other_headers}.items()]


def require_wrk() -> None:
    """Check that wrk is installed.

    Raises:
        BenchError: wrk is not installed.
    """
    if shutil.which("wrk") is None:
        raise BenchError("wrk is not installed", remedy="install it: sudo apt-get install wrk")


def run_wrk(target: Target, *, concurrency: int, seconds: float) -> Load:
    """Put a server under load and return the measurement.

    Raises:
        BenchError: wrk failed, or its output can't be parsed.
    """
    command = [
        *("wrk", "--threads", "1", "--connections", str(concurrency)),
        *("--duration", f"{max(1, round(seconds))}s", "--timeout", f"{ANSWER_TIMEOUT_S}s"),
        *("--script", str(SCRIPT), target.url, "--", str(target.bodies), str(target.body_count), PLACEHOLDER),
        *target.header_lines,
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BenchError(f"wrk exited with {result.returncode}: {(result.stderr or result.stdout).strip()[-300:]}")
    return parse(result.stdout)


def parse(output: str) -> Load:
    """Parse wrk's output.

    Raises:
        BenchError: the line of JSON is missing or invalid.
    """
    lines = [line.removeprefix(MARK) for line in output.splitlines() if line.startswith(MARK)]
    if len(lines) != 1:
        raise BenchError(
            f"wrk's output has {len(lines)} lines that start with '{MARK}': {output.strip()[-300:]}", expected="one"
        )
    try:
        seen = json.loads(lines[0])
        return Load(
            requests=seen["requests"],
            duration_s=seen["duration_us"] / 1e6,
            p50_ms=seen["p50_us"] / 1e3,
            p90_ms=seen["p90_us"] / 1e3,
            p99_ms=seen["p99_us"] / 1e3,
            max_ms=seen["max_us"] / 1e3,
            error_statuses=seen["status"],
            socket_errors={name: seen[name] for name in ("connect", "read", "write", "timeout")},
        )
    except (ValueError, KeyError, ValidationError) as error:
        raise BenchError(f"wrk's result line can't be parsed: {lines[0]}: {error}") from None
