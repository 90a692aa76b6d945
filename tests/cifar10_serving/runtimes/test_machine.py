"""CPU quotas of cgroups, read from files as the kernel writes them."""

import os
from pathlib import Path

import pytest

from cifar10_serving.runtimes.machine import usable_cores


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root folder of a machine with 64 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(64)))
    write(tmp_path / "proc/self/cgroup", "0::/pods/one/service")
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", 64), ("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("9900000 100000", 64)],
)
def test_quota_counts_as_full_cores_up_to_those_of_the_machine(root: Path, limit: str, cores: int) -> None:
    write(root / "sys/fs/cgroup/pods/one/service/cpu.max", limit)
    assert usable_cores(root) == cores


def test_tightest_quota_of_the_groups_around_it_counts(root: Path) -> None:
    write(root / "sys/fs/cgroup/pods/one/service/cpu.max", "max 100000")
    write(root / "sys/fs/cgroup/pods/one/cpu.max", "300000 100000")
    write(root / "sys/fs/cgroup/pods/cpu.max", "1600000 100000")
    write(root / "sys/fs/cgroup/pods/other/cpu.max", "100000 100000")
    assert usable_cores(root) == 3


def test_container_that_sees_only_its_own_group(root: Path) -> None:
    write(root / "sys/fs/cgroup/cpu.max", "400000 100000")
    assert usable_cores(root) == 4


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "cores"), [("-1", 64), ("250000", 3)])
def test_first_version_of_cgroups(root: Path, folder: str, quota: str, cores: int) -> None:
    write(root / "proc/self/cgroup", f"5:memory:/pods/one\n4:{folder}:/pods/one\n0::/")
    write(root / f"sys/fs/cgroup/{folder}/pods/one/cpu.cfs_quota_us", quota)
    write(root / f"sys/fs/cgroup/{folder}/pods/one/cpu.cfs_period_us", "100000")
    assert usable_cores(root) == cores


def test_machine_without_cgroups_or_with_unreadable_ones(root: Path, tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "nowhere") == 64
    write(root / "sys/fs/cgroup/cpu.max", "")
    assert usable_cores(root) == 64
