"""Sharing of new connections among workers that listen on the same sockets.

The kernel wakes every worker for a new connection, and the first to accept gets it. A worker that happens to be quicker
would take them all: of 64 connections, one of two workers had 64. Here each worker publishes how many connections it
holds in shared memory, and leaves a new one to a worker with fewer.

`SO_REUSEPORT` is no alternative: the kernel assigns connections by a hash of the client's address and port, so eight
connections are often shared two to six, and those queued for a worker that exits are reset.
"""

import asyncio
import time
from collections.abc import Callable, MutableSequence, Sequence
from socket import socket
from typing import Final

NOT_SERVING: Final = 2**31 - 1
"""Published by a worker that accepts nothing."""
LOOK_AGAIN_S: Final = 0.001
MAX_DEFERRED_S: Final = 0.02
"""Time after which a worker takes a connection that the others leave: they may be hung."""


class ConnectionBalance:
    """The number of open connections of each worker.

    Args:
        counts: shared by all workers, one entry each.
        place: this worker's entry.
    """

    def __init__(self, counts: MutableSequence[int], place: int) -> None:
        self._counts = counts
        self._place = place

    def publish(self, connections: int) -> None:
        """Tell the other workers how many connections this one holds."""
        self._counts[self._place] = connections

    def withdraw(self) -> None:
        """Tell the other workers that this one accepts nothing."""
        self._counts[self._place] = NOT_SERVING

    def is_mine(self, connections: int) -> bool:
        """Publish the number of connections; return whether no other worker holds fewer."""
        self.publish(connections)
        return connections <= min(self._counts)


class BalancedAccept:
    """Accepts connections on the event loop, if the balance says so.

    Args:
        balance: the balance.
        connections: returns the number of open connections.
        accept: accepts one connection of a socket; returns False if none is waiting.
        clock: returns the time.
    """

    def __init__(
        self,
        balance: ConnectionBalance,
        connections: Callable[[], int],
        accept: Callable[[socket], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._balance = balance
        self._connections = connections
        self._accept = accept
        self._clock = clock
        self._sockets: Sequence[socket] = ()
        self._deferred_s: float | None = None
        self._timer: asyncio.Handle | None = None

    def start(self, sockets: Sequence[socket]) -> None:
        """Accept connections of these sockets in the running event loop."""
        self._sockets = sockets
        self._balance.publish(self._connections())
        self._listen()

    def stop(self) -> None:
        """Accept no more, and leave new connections to the other workers."""
        self._balance.withdraw()
        self._ignore()
        if self._timer is not None:
            self._timer.cancel()
        self._sockets = ()

    def take(self, listening: socket, max_accepts: int) -> None:
        """Accept up to `max_accepts` waiting connections of a socket that are this worker's."""
        for _ in range(max_accepts):
            if not self._may_take():
                self._look_again_later()
                return
            if not self._accept(listening):
                self._deferred_s = None
                return
            self._deferred_s = None

    def _may_take(self) -> bool:
        if self._balance.is_mine(self._connections()):
            return True
        now_s = self._clock()
        self._deferred_s = self._deferred_s or now_s
        return now_s - self._deferred_s >= MAX_DEFERRED_S

    def _listen(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.add_reader(listening.fileno(), self.take, listening, 1)

    def _ignore(self) -> None:
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            if listening.fileno() >= 0:
                loop.remove_reader(listening.fileno())

    def _look_again_later(self) -> None:
        """Wait for another worker to take what is waiting; the event loop would report it without end."""
        if self._timer is None:
            self._ignore()
            self._timer = asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._listen)
