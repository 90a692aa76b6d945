"""Parses large requests in a separate process, so that they don't block the event loop.

A thread would not help: parsers of JSON and protobuf hold the GIL all the time, for half a second for 10 MB of numbers.
Each protocol provides the function that parses and checks its requests.

`anyio.to_process` takes somewhat less processor time (63 to 86 ms for 7 MB of JSON, against 82 to 111 ms here), but its
process keeps the last request and its answer until the next one, and doesn't end while idle: it holds 104 MiB, where
this one holds 61 MiB and ends after `KEEP_S`. It is also in the terminal's process group: Ctrl-C during a large request
raises KeyboardInterrupt in the event loop instead of starting a graceful shutdown.
`python -m scripts.compare_libraries large-requests` measures time and memory of both.
"""

import asyncio
import contextlib
import gc
import os
import pickle
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Any, BinaryIO, Final, ParamSpec, TypeVar

from service.errors import RequestError, UnavailableError, clear_traceback
from service.inference.pipeline import Deadline
from service.process.lifecycle import configure_malloc

LARGE_BYTES: Final = 256 * 2**10
"""Threshold at which parsing (2 to 10 ms) takes longer than the way through another process."""
LENGTH: Final = struct.Struct("<Q")
STOP_TIMEOUT_S: Final = 1.0
KEEP_S: Final = 30.0

Arguments = ParamSpec("Arguments")
Read = TypeVar("Read")


class RequestReader:
    """Calls parsing functions, here or in the process, which is started for a large request and ends when idle.

    One large request is parsed at a time. Used from one event loop.

    Args:
        keep_s: idle time after which the process ends; parsed requests have left it large.
    """

    def __init__(self, *, keep_s: float = KEEP_S) -> None:
        self._keep_s = keep_s
        self._process: Process | None = None
        self._starting: asyncio.Task[Process] | None = None
        self._lock = asyncio.Lock()
        self._retirement: asyncio.Handle | None = None

    async def read(
        self,
        parse_cost_bytes: int,
        deadline: Deadline,
        function: Callable[Arguments, Read],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Read:
        """Return the function's result.

        Args:
            parse_cost_bytes: number of bytes in the arguments that are parsed, not only copied.
            deadline: the request's deadline.
            function: a function of a module, so that the process can import it; arguments and result are pickled.

        Raises:
            DeadlineError: the deadline has passed.
            UnavailableError: the process was killed.
            RequestError: raised by the function.
        """
        if parse_cost_bytes < LARGE_BYTES:
            return function(*args, **kwargs)
        # Time-outs need a task, but a request may be answered without one (`service.http.exchange.EagerCall`).
        outcome = await asyncio.create_task(self._ask_exclusively((function, args, kwargs), deadline))
        if isinstance(outcome, Exception):
            raise outcome
        read: Read = outcome
        return read

    async def close(self) -> None:
        """End the process, if it is running."""
        if self._starting is not None:
            with contextlib.suppress(OSError):  # it couldn't start
                self._process = await self._starting
            self._starting = None
        process = self._retire()
        if process is None:
            return
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    def _retire(self) -> Process | None:
        """Let the process end by itself, by closing its input."""
        if self._retirement is not None:
            self._retirement.cancel()
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
        return process

    async def _ask_exclusively(self, call: tuple[Any, ...], deadline: Deadline) -> Any:
        """Return the outcome, including errors: a raised one would stay in its task, in a cycle that holds the body."""
        try:
            async with asyncio.timeout(deadline.left_s), self._lock:
                return await self._ask(pickle.dumps(call, pickle.HIGHEST_PROTOCOL))
        except TimeoutError:
            return deadline.passed()
        except RequestError as error:
            clear_traceback(error)
            return error

    async def _ask(self, question: bytes) -> Any:
        if self._retirement is not None:
            self._retirement.cancel()
        process = self._process or await self._start()
        if process.stdin is None or process.stdout is None:
            raise AssertionError("it was started with pipes")
        try:
            process.stdin.write(LENGTH.pack(len(question)))
            process.stdin.write(question)
            await process.stdin.drain()
            (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
            answer = await process.stdout.readexactly(length)
        except (OSError, RuntimeError, asyncio.IncompleteReadError):  # RuntimeError: uvloop, for a closed pipe
            self._give_up(process)
            raise UnavailableError("the process that parses large requests has ended", retry_after_s=1) from None
        except asyncio.CancelledError:
            self._give_up(process)  # it is working on something that nobody waits for
            raise
        self._retirement = asyncio.get_running_loop().call_later(self._keep_s, self._retire)
        return pickle.loads(answer)  # noqa: S301  # by our own process

    async def _start(self) -> Process:
        """Start the process; a request that times out meanwhile leaves it to the next one."""
        if self._starting is None:
            self._starting = asyncio.create_task(_start())
        try:
            self._process = await asyncio.shield(self._starting)
        except OSError as error:  # no process or descriptor is left
            self._starting = None
            raise UnavailableError(
                f"the process that parses large requests can't start: {error.strerror}", retry_after_s=1
            ) from None
        self._starting = None
        return self._process

    def _give_up(self, process: Process) -> None:
        self._process = None
        if process.returncode is None:
            process.kill()


async def _start() -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__),
        stdin=PIPE,
        stdout=PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,  # Ctrl-C must not reach it: it ends with its input
    )


def answer_questions(questions: BinaryIO, answers: BinaryIO) -> None:
    """Make the requested calls until the input ends."""
    while head := questions.read(LENGTH.size):
        answer = _answer(questions.read(*LENGTH.unpack(head)))
        answers.write(LENGTH.pack(len(answer)))
        answers.write(answer)
        answers.flush()
        del answer  # free it before waiting


def _answer(question: bytes) -> bytes:
    function, args, kwargs = pickle.loads(question)  # noqa: S301  # by the process that started this
    del question
    try:
        outcome = function(*args, **kwargs)
    except RequestError as error:
        # Not kept in a variable: its frames lead back here, and garbage is not collected, so the request would stay.
        return pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
    del args, kwargs
    return pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)


if __name__ == "__main__":
    # Parsed data has no cycles, and searching a million lists for cycles takes longer than parsing.
    gc.disable()
    configure_malloc()
    output, sys.stdout = sys.stdout.buffer, sys.stderr
    answer_questions(sys.stdin.buffer, output)
