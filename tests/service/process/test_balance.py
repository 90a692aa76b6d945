"""Sharing of connections among workers, which are two acceptors in one process here."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest

from service.process.balance import MAX_DEFERRED_S, NOT_SERVING, BalancedAccept, ConnectionBalance
from tests.waiting import PATIENCE_S


class Worker:
    """A worker that holds the connections that it accepts."""

    def __init__(self, counts: list[int], place: int, clock: Callable[[], float]) -> None:
        self.held: list[socket.socket] = []
        self.balance = ConnectionBalance(counts, place)
        self.accepting = BalancedAccept(self.balance, lambda: len(self.held), self._accept, clock=clock)
        self._listening: socket.socket | None = None

    def start(self, listening: socket.socket) -> None:
        self._listening = listening.dup()  # each worker process has a descriptor of its own
        self.accepting.start([self._listening])

    def close(self) -> None:
        self.accepting.stop()
        for each in [*self.held, *([self._listening] if self._listening else [])]:
            each.close()

    def _accept(self, listening: socket.socket) -> bool:
        try:
            self.held.append(listening.accept()[0])
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        opened.setblocking(False)
        yield opened


@pytest.fixture
def connect(listening: socket.socket) -> Iterator[Callable[[], None]]:
    """Open a connection, which stays open."""
    with contextlib.ExitStack() as opened:

        def connect() -> None:
            opened.enter_context(socket.create_connection(listening.getsockname()))

        yield connect


def close(workers: list[Worker]) -> None:
    for worker in workers:
        worker.close()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(int(PATIENCE_S * 1000)):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError


@pytest.mark.anyio
@pytest.mark.parametrize("connections", [2, 8, 64])
async def test_connections_are_shared_evenly(
    listening: socket.socket, connect: Callable[[], None], connections: int
) -> None:
    counts = [NOT_SERVING] * 3
    workers = [Worker(counts, place, lambda: 0.0) for place in range(2)]
    for worker in workers:
        worker.start(listening)
    for _ in range(connections):
        connect()
    await until(lambda: sum(len(worker.held) for worker in workers) == connections)
    assert [len(worker.held) for worker in workers] == [connections / 2] * 2
    assert counts[2] == NOT_SERVING
    close(workers)


@pytest.mark.anyio
async def test_worker_that_does_not_take_its_share_is_waited_for_only_so_long(
    listening: socket.socket, connect: Callable[[], None]
) -> None:
    now_s = 100.0
    worker = Worker([NOT_SERVING, 0], 0, lambda: now_s)  # the other one holds none, and hangs
    worker.start(listening)
    for _ in range(2):
        connect()
    await until(lambda: len(worker.held) == 1)
    await asyncio.sleep(0.02)
    assert len(worker.held) == 1
    now_s += 2 * MAX_DEFERRED_S
    await until(lambda: len(worker.held) == 2)
    close([worker])


@pytest.mark.anyio
async def test_stopped_worker_leaves_connections_to_the_others(
    listening: socket.socket, connect: Callable[[], None]
) -> None:
    counts = [NOT_SERVING] * 2
    workers = [Worker(counts, place, lambda: 0.0) for place in range(2)]
    for worker in workers:
        worker.start(listening)
    workers[0].accepting.stop()
    for _ in range(3):
        connect()
    await until(lambda: len(workers[1].held) == 3)
    assert not workers[0].held
    assert counts == [NOT_SERVING, 2]
    close(workers)


@pytest.mark.anyio
async def test_busy_worker_takes_no_more_than_its_share_in_a_tick(
    listening: socket.socket, connect: Callable[[], None]
) -> None:
    worker = Worker([NOT_SERVING, 3], 0, lambda: 0.0)
    for _ in range(6):
        connect()
    worker.accepting.take(listening, 2)
    assert len(worker.held) == 2
    worker.accepting.take(listening, 10)
    assert len(worker.held) == 4  # one more than the other's three
    close([worker])
