"""Provenance of a version: the project's commit, package versions, hardware."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Final

from cifar10_serving.runtimes.machine import usable_cores

PACKAGES: Final = ("tensorflow", "keras", "openvino", "numpy", "scikit-learn", "tensorflow-serving-api")
PROJECT_ROOT: Final = Path(__file__).resolve().parent.parent


def git_commit() -> str:
    """Return the commit of this checkout, with `-dirty` if tracked files are modified; `unknown` without git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def package_versions(*more: str) -> dict[str, str]:
    """Return the versions of Python and of each installed package that affects the result, including `more`."""
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *more):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> str:
    """Return the processor's name, its usable cores and the operating system."""
    model = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        names = [line.partition(":")[2].strip() for line in cpu_info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {usable_cores()} cores, {platform.system()} {platform.machine()}"
