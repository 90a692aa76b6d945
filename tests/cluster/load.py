"""Load for a service in a network namespace: `python -m tests.cluster.load`, which prints what happened as JSON.

Without `--retries` nothing is sent twice: an answer that doesn't come is lost. Connections are kept and reused, as
clients do.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ANSWER_S: Final = 20.0
OK: Final = 200


@dataclass
class Report:
    """The outcome of all requests."""

    sent: int = 0
    answered: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """Number of requests by status or error, of those that did not get 200."""
    longest_s: float = 0.0

    def add(self, outcome: str, seconds: float) -> None:
        """Count one request."""
        self.sent += 1
        self.longest_s = max(self.longest_s, seconds)
        if outcome == str(OK):
            self.answered += 1
        else:
            self.outcomes[outcome] += 1


class Connection:
    """A connection of one client, opened again only if it was closed before a request."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self._host = host
        self._port = port
        self._request = request
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> str:
        """Send the request; return the answer's status, or the error's name."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._ask()
        except (OSError, EOFError, TimeoutError) as error:
            self._close()
            return type(error).__name__

    async def _ask(self) -> str:
        if self._streams is None or self._streams[0].at_eof():
            self._close()
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        if b"\r\nconnection: close" in head:
            self._close()
        return head[9:12].decode()

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def steady(ask: Callable[[], Awaitable[str]], rate: float, seconds: float) -> Report:
    """Send requests at a rate, however long the answers take, until SIGTERM."""
    report, tasks, stopped = Report(), set[asyncio.Task[None]](), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)

    async def one() -> None:
        sent_s = time.monotonic()
        report.add(await ask(), time.monotonic() - sent_s)

    start_s = time.monotonic()
    for number in range(round(rate * seconds)):
        if stopped.is_set():
            break
        await asyncio.sleep(max(0.0, start_s + number / rate - time.monotonic()))
        task = asyncio.create_task(one())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return report


async def closed(connections: list[Connection], requests: int) -> Report:
    """Send this many requests; each client sends its next one when it has its answer."""
    report, left = Report(), requests

    async def client(connection: Connection) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            start_s = time.monotonic()
            report.add(await connection.ask(), time.monotonic() - start_s)

    await asyncio.gather(*map(client, connections))
    return report


def pooled(host: str, port: int, request: bytes) -> Callable[[], Awaitable[str]]:
    """Return a function that sends the request on a free connection, or on a new one."""
    free: list[Connection] = []

    async def ask() -> str:
        connection = free.pop() if free else Connection(host, port, request)
        try:
            return await connection.ask()
        finally:
            free.append(connection)

    return ask


async def retried(url: str, image: bytes, rate: float, seconds: float) -> Report:
    """Send requests with the project's client, which retries."""
    from cifar10_serving.client import AsyncClient
    from cifar10_serving.errors import ProjectError

    async with AsyncClient(url) as client:

        async def ask() -> str:
            try:
                await client.predict(image)
            except ProjectError as error:
                return f"{type(error).__name__}: {error}"
            return str(OK)

        return await steady(ask, rate, seconds)


async def main() -> None:
    """Send what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("image", type=Path)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--retries", action="store_true")
    parser.add_argument("--clients", type=int)
    parser.add_argument("--requests", type=int)
    asked = parser.parse_args()
    image = asked.image.read_bytes()
    request = (
        f"POST /predict?model=sequential HTTP/1.1\r\nHost: {asked.host}\r\nContent-Type: image/png\r\n"
        f"Content-Length: {len(image)}\r\n\r\n"
    ).encode() + image
    if asked.clients is not None:
        clients = [Connection(asked.host, asked.port, request) for _ in range(asked.clients)]
        report = await closed(clients, asked.requests)
    elif asked.retries:
        report = await retried(f"http://{asked.host}:{asked.port}", image, asked.rate, asked.seconds)
    else:
        report = await steady(pooled(asked.host, asked.port, request), asked.rate, asked.seconds)
    json.dump({**vars(report), "outcomes": dict(report.outcomes)}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
