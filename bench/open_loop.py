"""Open-loop load: requests are sent at a fixed rate, whether or not earlier ones have been answered.

As in `bench.load`, each form has a boundary and a file name of its own. Runs as a separate process,
`python -m bench.open_loop`, and prints one line of JSON. It uses minimal HTTP over plain sockets, so that the client
takes little CPU time from the measured server.
"""

import argparse
import gc
import json
import math
import secrets
import select
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import Final

from bench.environments import ROOT
from bench.errors import BenchError
from bench.load import Target
from bench.measurements import Overload
from bench.uploads import PLACEHOLDER

MAX_CONNECTIONS: Final = 2000
ANSWERED: Final = 200
REJECTED: Final = 503
LAST_ANSWERS_S: Final = 15.0
"""Time to wait for answers after the last request; these count as answered, but not as goodput."""
RECEIVE_BYTES: Final = 65536
HEAD_END: Final = b"\r\n\r\n"
LONGEST_POLL_S: Final = 0.001


class Connection:
    """A keep-alive connection, and its outstanding request."""

    __slots__ = ("closed", "received", "sent_s", "socket", "waiting")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=1)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.sent_s = 0.0
        self.received = b""
        self.waiting = False
        self.closed = False


class OpenLoop:
    """The client: sends due requests on free connections and reads the answers."""

    def __init__(self, address: tuple[str, int], requests: list[bytes], rate_per_s: float, duration_s: float) -> None:
        """Take the requests, with PLACEHOLDER where each one that is sent gets a mark of its own."""
        self._address = address
        self._requests = [request.split(PLACEHOLDER.encode()) for request in requests]
        self._run = secrets.randbits(32)
        self._rate_per_s = rate_per_s
        self._duration_s = duration_s
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._free: deque[Connection] = deque()
        self._waiting_count = 0
        self.latencies_s: dict[int, list[float]] = {}
        self.lateness_s: list[float] = []
        self.statuses_in_time: Counter[int] = Counter()
        self.unanswered = 0
        self.not_sent = 0

    def run(self) -> None:
        """Send for the whole duration, then wait briefly for the last answers."""
        start_s = time.perf_counter()
        end_s = start_s + self._duration_s
        interval_s = 1 / self._rate_per_s
        sent = 0
        while (now_s := time.perf_counter()) < end_s + LAST_ANSWERS_S:
            due_s = start_s + sent * interval_s
            while due_s <= now_s and due_s < end_s:
                mark = b"%08x%08x" % (self._run, sent)
                self._send(mark.join(self._requests[sent % len(self._requests)]), due_s)
                sent += 1
                due_s = start_s + sent * interval_s
            if now_s >= end_s and self._waiting_count == 0:
                break
            patience_s = min(max(due_s - time.perf_counter(), 0), LONGEST_POLL_S) if now_s < end_s else LONGEST_POLL_S
            for descriptor, _ in self._poll.poll(patience_s):
                self._receive(self._connections[descriptor], in_time=time.perf_counter() < end_s)
        self.unanswered += self._waiting_count

    def _send(self, request: bytes, due_s: float) -> None:
        while self._free and self._free[0].closed:
            self._free.popleft()
        connection = self._free.popleft() if self._free else self._connect()
        if connection is None:
            self.not_sent += 1
            return
        connection.sent_s = time.perf_counter()
        try:
            whole = connection.socket.send(request) == len(request)
        except OSError:  # reset, or closed by the server while idle
            whole = False
        if not whole:
            self.unanswered += 1
            self._close(connection)
            return
        self.lateness_s.append(connection.sent_s - due_s)
        connection.waiting = True
        self._waiting_count += 1

    def _connect(self) -> Connection | None:
        if len(self._connections) >= MAX_CONNECTIONS:
            return None
        try:
            connection = Connection(self._address)
        except OSError:
            self.unanswered += 1
            return None
        self._connections[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.EPOLLIN)
        return connection

    def _receive(self, connection: Connection, *, in_time: bool) -> None:
        try:
            data = connection.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # which the server may do to an idle connection
            self.unanswered += connection.waiting
            self._close(connection)
            return
        connection.received += data
        head, end, body = connection.received.partition(HEAD_END)
        if not end or len(body) < _content_length(head):
            return
        status = int(head[9:12])
        self.latencies_s.setdefault(status, []).append(time.perf_counter() - connection.sent_s)
        if in_time:
            self.statuses_in_time[status] += 1
        connection.received = b""
        if b"\r\nconnection: close" in head.lower():
            self._close(connection)
        else:
            connection.waiting = False
            self._waiting_count -= 1
            self._free.append(connection)

    def _close(self, connection: Connection) -> None:
        del self._connections[connection.socket.fileno()]
        self._poll.unregister(connection.socket)
        connection.socket.close()
        connection.closed = True
        self._waiting_count -= connection.waiting
        connection.waiting = False


def _content_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def percentile(values: list[float], percent: float) -> float | None:
    """Return the nearest-rank percentile: the smallest value not exceeded by this share; None without values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def run_open_loop(
    target: Target, *, model: str, capacity_per_s: float, wanted_per_s: float, seconds: float
) -> Overload:
    """Run the client in a separate process.

    Raises:
        BenchError: it failed.
    """
    command = [
        *(sys.executable, "-m", "bench.open_loop", target.url, str(target.bodies), str(target.body_count)),
        *(str(wanted_per_s), str(seconds), *target.header_lines),
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BenchError(f"the open-loop client exited with {result.returncode}: {result.stderr.strip()[-300:]}")
    seen = json.loads(result.stdout)
    return Overload(model=model, capacity_per_s=capacity_per_s, wanted_per_s=wanted_per_s, **seen)


def main() -> None:
    """Parse the arguments, run the load, print the result."""
    parser = argparse.ArgumentParser(description="requests at a fixed rate; prints JSON")
    parser.add_argument("url", help="http://HOST:PORT/PATH")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("rate_per_s", type=float)
    parser.add_argument("duration_s", type=float)
    parser.add_argument("headers", nargs="+", metavar="NAME:VALUE")
    arguments = parser.parse_args()
    host_and_port, _, path = arguments.url.removeprefix("http://").partition("/")
    host, _, port = host_and_port.partition(":")
    lines = "".join(f"{line}\r\n" for line in arguments.headers)
    requests = []
    for number in range(arguments.count):
        body = (arguments.bodies / str(number)).read_bytes()
        head = f"POST /{path} HTTP/1.1\r\nHost: {host_and_port}\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        requests.append(head.encode() + body)
    gc.disable()
    client = OpenLoop((host, int(port)), requests, arguments.rate_per_s, arguments.duration_s)
    client.run()
    print(json.dumps(_summary(client, arguments.duration_s)))


def _summary(client: OpenLoop, duration_s: float) -> dict[str, object]:
    late = {status: len(found) - client.statuses_in_time[status] for status, found in client.latencies_s.items()}
    rejected_p99_s, answered_p99_s = (
        percentile(client.latencies_s.get(status, []), 99) for status in (REJECTED, ANSWERED)
    )
    return {
        "offered_per_s": len(client.lateness_s) / duration_s,
        "duration_s": duration_s,
        "statuses": dict(client.statuses_in_time + Counter({s: n for s, n in late.items() if s != ANSWERED})),
        "unanswered": client.unanswered,
        "rejected_p99_ms": None if rejected_p99_s is None else rejected_p99_s * 1000,
        "answered_p99_ms": None if answered_p99_s is None else answered_p99_s * 1000,
        "lateness_p99_ms": (percentile(client.lateness_s, 99) or 0) * 1000,
        "not_sent": client.not_sent,
    }


if __name__ == "__main__":
    main()
