"""Where a version came from: this project's commit, the packages' versions, the machine."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Final

from cifar10_serving.runtimes.machine import usable_cores

PACKAGES: Final = ("tensorflow", "keras", "openvino", "numpy", "scikit-learn", "tensorflow-serving-api")
PROJECT_ROOT: Final = Path(__file__).resolve().parent.parent


def git_commit() -> str:
    """The commit of this checkout, with `-dirty` where tracked files differ from it; `unknown` outside of one."""
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
    """Python's version and that of each package that the result depends on, `more` of them among those."""
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *more):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> str:
    """The processor and its usable cores, as the system names them."""
    model = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        names = [line.partition(":")[2].strip() for line in cpu_info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {usable_cores()} cores, {platform.system()} {platform.machine()}"
