"""Two machines on one: network namespaces joined by a virtual cable, which a test can cut.

It needs root and iproute2. The machines share the file system and the processors.
"""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.conftest import ROOT

TICKS: Final = os.sysconf("SC_CLK_TCK")


def why_not() -> str | None:
    """Return why this machine can't stand for two; None if it can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    for command, package in (("ip", "iproute2"), ("unshare", "util-linux"), ("curl", "curl")):
        if shutil.which(command) is None:
            return f"needs {command}: install {package}"
    tried = f"cifar10-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", tried], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"network namespaces can't be created: {made.stderr.strip()}"
    _ip("netns", "del", tried)
    return None


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@dataclass
class Machine:
    """A network namespace, with an address that the other machine reaches."""

    name: str
    address: str
    interface: str
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def run(
        self, command: Sequence[str], log: Path, variables: Mapping[str, str], *, alone: bool = False
    ) -> "subprocess.Popen[bytes]":
        """Start a command on this machine.

        Args:
            alone: whether it sees no processes but its own; Ray looks for others.
        """
        alone_in = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"] if alone else []
        inside = ["ip", "netns", "exec", self.name, *alone_in, *command]
        with log.open("ab") as stream:
            process = subprocess.Popen(inside, cwd=ROOT, env=dict(variables), stdout=stream, stderr=stream)
        self.processes.append(process)
        return process

    def output(self, command: Sequence[str], variables: Mapping[str, str]) -> bytes:
        """Run a command on this machine, and return what it printed."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command], cwd=ROOT, env=dict(variables), capture_output=True, check=True
        )
        return done.stdout

    def pids(self) -> set[int]:
        """Return the processes of this machine."""
        listed = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True)
        return {int(pid) for pid in listed.stdout.split()}

    def pids_of(self, text: str) -> set[int]:
        """Return the processes of this machine whose command line has this text."""
        return {pid for pid in self.pids() if text in _command_line(pid)}

    def kill(self, *, but: str | None = None) -> None:
        """Kill every process at once, as a power cut does.

        Args:
            but: a text in the command lines of processes that go on.
        """
        spared = self.pids_of(but) if but is not None else set()
        while victims := self.pids() - spared:
            for pid in victims:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self.processes:
                process.poll()

    def cut(self) -> None:
        """Cut the network."""
        _ip("-n", self.name, "link", "set", self.interface, "down")

    def mend(self) -> None:
        """Mend the network."""
        _ip("-n", self.name, "link", "set", self.interface, "up")

    def processor_s(self) -> dict[int, float]:
        """Return the processor time so far of each process."""
        return {pid: _processor_s(pid) for pid in self.pids()}


def used_s(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Return the processor time that processes used between two looks."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Yield two machines; kill their processes at the end."""
    drawn = secrets.token_hex(4)
    first = Machine(f"cifar10-a-{drawn}", "10.86.0.1", "cable-a")
    second = Machine(f"cifar10-b-{drawn}", "10.86.0.2", "cable-b")
    try:
        for machine in (first, second):
            _ip("netns", "add", machine.name)
        _ip(*("-n", first.name, "link", "add", first.interface, "type", "veth"), *("peer", "name", second.interface))
        _ip("-n", first.name, "link", "set", second.interface, "netns", second.name)
        for machine in (first, second):
            _ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", machine.interface)
            _ip("-n", machine.name, "link", "set", "lo", "up")
            machine.mend()
        yield first, second
    finally:
        for machine in (first, second):
            with suppress(subprocess.CalledProcessError):
                machine.kill()
                _ip("netns", "del", machine.name)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has ended
        return ""


def _processor_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS
