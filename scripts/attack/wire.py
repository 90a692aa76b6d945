"""Send attempts over TCP and read the answers.

Plain sockets send the bytes, since no HTTP client sends malformed requests; h11 parses the answers strictly.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections import deque
from typing import Final

import h11

from scripts.attack.attempts import Answer, Attempt, Due, Ending, Outcome

READ_BYTES: Final = 256 * 2**10
ANSWER_TIMEOUT_S: Final = 60.0
"""Longer than any timeout of the service: an answer that hasn't arrived by then is lost."""
MAX_IDLE_S: Final = 2.0
"""Connections are reused within this time; the service closes them after 5 s without a request."""
OK: Final = 200
CONTINUE: Final = 100
ABORTIVE_CLOSE: Final = struct.pack("ii", 1, 0)
ANY_REQUEST: Final = h11.Request(method="GET", target="/", headers=[("Host", "attack")])
HEAD_REQUEST: Final = h11.Request(method="HEAD", target="/", headers=[("Host", "attack")])


class Connection:
    """A connection to the service."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._parser = h11.Connection(h11.CLIENT)
        self.answered_s = time.monotonic()

    async def send(self, content: bytes | memoryview) -> None:
        """Send everything; ignore errors, since the service may have closed the connection."""
        with contextlib.suppress(OSError):  # reading reports the problem
            await self._loop.sock_sendall(self._socket, content)

    async def answer(self, *, is_head: bool = False) -> Answer | None:
        """Read the next answer; None if the connection is closed before it.

        Raises:
            h11.RemoteProtocolError: the bytes are not an answer, or an incomplete one.
        """
        if self.is_reusable:
            self._parser.start_next_cycle()
        elif self._parser.our_state is not h11.IDLE:  # the previous answer had Connection: close
            await self._expect_the_end()
            return None
        # h11 needs a request for each answer; the real bytes were sent without it.
        self._parser.send(HEAD_REQUEST if is_head else ANY_REQUEST)
        self._parser.send(h11.EndOfMessage())
        status, headers, body = 0, {}, bytearray()
        while True:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                received = await self._received()
                if not received and not status and not self._parser.trailing_data[0]:
                    return None
                self._parser.receive_data(received)
            elif isinstance(event, h11.InformationalResponse):
                if event.status_code != CONTINUE:
                    raise h11.RemoteProtocolError(f"status {event.status_code} without a reason")
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.answered_s = time.monotonic()
                return Answer(status, headers, bytes(body))
            else:
                raise h11.RemoteProtocolError(f"{type(event).__name__} within an answer")

    @property
    def is_reusable(self) -> bool:
        """True if another request may follow."""
        return self._parser.their_state is h11.DONE and self._parser.our_state is h11.DONE

    def shut_down_sending(self) -> None:
        """Half-close the connection."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        """Close the connection."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTIVE_CLOSE)
        self._socket.close()

    async def _received(self) -> bytes:
        try:
            return await self._loop.sock_recv(self._socket, READ_BYTES)
        except ConnectionError:
            return b""

    async def _expect_the_end(self) -> None:
        trailing, _ = self._parser.trailing_data
        if trailing or await self._received():
            raise h11.RemoteProtocolError("bytes after the last answer")


class Service:
    """The address of the service, and a pool of idle connections.

    Args:
        host: an address on the loopback interface.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._idle: deque[Connection] = deque()

    async def connect(self) -> Connection:
        """Open a new connection."""
        fresh = socket.socket(self._family, socket.SOCK_STREAM)
        fresh.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(fresh, self._address)
        except BaseException:
            fresh.close()
            raise
        return Connection(fresh)

    async def perform(self, attempt: Attempt) -> Outcome:
        """Send an attempt and judge the answers."""
        outcome = Outcome()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                connection = self._take() if attempt.reuses else None
                connection = connection or await self.connect()
                try:
                    await _converse(connection, attempt, outcome)
                    if attempt.reuses and outcome.is_right and connection.is_reusable:
                        self._idle.append(connection)
                        connection = None
                finally:
                    if connection is not None:
                        connection.close(reset=attempt.ending is Ending.RESET)
        except TimeoutError:
            outcome.lost.append(f"nothing more came within {ANSWER_TIMEOUT_S:g} s")
        except h11.RemoteProtocolError as error:
            outcome.wrong.append(f"not an HTTP answer: {error}")
        except OSError as error:
            outcome.lost.append(f"no connection: {error!r}")
        return outcome

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if time.monotonic() - connection.answered_s < MAX_IDLE_S:
                return connection
            connection.close()
        return None


async def _converse(connection: Connection, attempt: Attempt, outcome: Outcome) -> None:
    if attempt.ending in (Ending.LEAVE, Ending.RESET):
        await _send(connection, attempt)
        outcome.statuses.append("left")
        return
    # Concurrently: the service may answer and close before it has read everything.
    sending = asyncio.create_task(_send(connection, attempt))
    rejected_last = False  # an expected error closed the connection: no answer is due for later requests
    try:
        for expected in attempt.due:
            answer = await connection.answer(is_head=expected.is_head)
            if answer is None:
                outcome.statuses.append("closed")
                if not attempt.may_close and not rejected_last:
                    outcome.lost.append("the connection was closed without an answer")
                return
            _judge(expected, answer, outcome)
            rejected_last = answer.status != OK and answer.headers.get("connection") == "close"
        if attempt.must_close and (answer := await connection.answer()) is not None:
            outcome.wrong.append(f"an answer to nothing: {answer.status} {answer.body[:200]!r}")
        if not attempt.due:
            outcome.statuses.append("closed")
        if attempt.reuses:
            await sending
    finally:
        sending.cancel()


async def _send(connection: Connection, attempt: Attempt) -> None:
    content = memoryview(attempt.content)
    start = 0
    for cut in attempt.cuts:
        await connection.send(content[start:cut])
        await asyncio.sleep(attempt.pause_s)
        start = cut
    await connection.send(content[start:])
    if attempt.ending is Ending.HALF_CLOSE:
        connection.shut_down_sending()
    elif attempt.ending is not Ending.READ:
        await asyncio.sleep(attempt.pause_s)


def _judge(expected: Due, answer: Answer, outcome: Outcome) -> None:
    outcome.statuses.append(str(answer.status))
    if answer.status not in expected.statuses:
        words = f"{answer.status} instead of {sorted(expected.statuses)}: {answer.body[:300].decode('latin-1')}"
        outcome.unexpected.append(words)
    elif answer.status == OK and expected.check is not None:
        try:
            problem = expected.check(answer)
        except (LookupError, TypeError, ValueError) as error:
            problem = f"an answer of another form ({error!r}): {answer.body[:300]!r}"
        if problem:
            outcome.wrong.append(problem)
    if b"Traceback" in answer.body:
        outcome.wrong.append("the answer holds a traceback")
