"""The end of a connection: a full or half close by the client, a time-out, a malformed request, or a shutdown.

Requests that were received before are answered first, as long as the client can still read the answers.
"""

import asyncio
import select
from http import HTTPStatus
from typing import Any, ClassVar, Final, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.errors import CLIENT_GONE, RequestError, UploadTimeoutError, clear_traceback
from service.http.body import upload_timeout
from service.http.errors import problem_answer, problem_of
from service.http.exchange import Answer, encode_answer, new_trace
from service.http.middleware import LINGER_BYTES, LINGER_S, Application
from service.http.reading import Flow, ReadingProtocol, malformed

FIRST_BYTES: Final = b"HTTP/1.1 "
"""The first bytes of every answer, final or interim."""
PATHS: Final = ("/predict", "/compare", "/explain", "/v1/models/", "/v2/models/")
"""Path prefixes of predictions, which are requested by POST."""
FIRST_PROBE_S: Final = 0.02
LAST_PROBE_S: Final = 1.0
UNREAD_ANSWER_S: Final = 60.0
"""Time-out for a client that does not read its answer."""
MIN_LOOK_S: Final = 0.05
MAX_NOTED_PATH_BYTES: Final = 200


class HalfClosedTransport(asyncio.Transport):
    """The transport of a connection whose client has shut down its sending side.

    A client that waits for its answer can't be distinguished from one that has disconnected: both have sent a FIN. But
    the machine of a disconnected client responds to data with a reset. So the first bytes, which are the same for every
    answer, are sent one at a time while the answer is computed; `write` omits them.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._early_bytes = 0

    def send_early(self) -> bool:
        """Send the next byte of the answer early; return False if there are none left."""
        if self._early_bytes == len(FIRST_BYTES):
            return False
        self._transport.write(FIRST_BYTES[self._early_bytes : self._early_bytes + 1])
        self._early_bytes += 1
        return True

    def write(self, data: "bytes | bytearray | memoryview[int]") -> None:
        """Write an answer or a part of it."""
        if self._early_bytes:
            data, self._early_bytes = memoryview(data)[self._early_bytes :], 0
        self._transport.write(data)

    def close(self) -> None:
        """Close after the written data is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether the transport is closed or closing."""
        return self._transport.is_closing()

    def can_write_eof(self) -> bool:
        """Return whether `write_eof` may be called."""
        return self._transport.can_write_eof()

    def write_eof(self) -> None:
        """Shut down the sending side."""
        self._transport.write_eof()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return information from the other transport."""
        return self._transport.get_extra_info(name, default)


class ClosingProtocol(ReadingProtocol):
    """The part of a connection that ends it."""

    application: ClassVar[Application]
    root_path_bytes: ClassVar[bytes]

    _answer: "asyncio.Future[Any] | None" = None
    """The future that the current request waits for; cancelled when the client disconnects."""
    _skip_bytes = 0
    """Number of bytes of a rejected request's body that are still to come."""
    _last_cycle: RequestResponseCycle | None = None
    """The request whose answer announces the close during a shutdown."""
    _timer: asyncio.TimerHandle | None = None
    _probe_timer: asyncio.TimerHandle | None = None
    _unread_since_s: float | None = None
    _last_words: bytes | None = None
    """The answer to a malformed request, sent after the answers to the requests before it."""
    _is_lingering = False
    _lingering_bytes = 0

    # Called by the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time-out for the first request."""
        super().connection_made(transport)
        self.flow = Flow(transport)
        self._since_s = self.loop.time()
        self._timer = self.loop.call_later(self._look_after_s, self._look)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep the connection open if the client may still wait for an answer."""
        if self._is_lingering or self.transport.is_closing():
            return None
        self._had_eof = True
        self.flow.is_held = True
        if not self._waits_for_room:
            self._end_input()
        if self._is_lingering or self.transport.is_closing() or self._is_idle():
            return None
        self._await_answers_half_closed()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what remains, as nobody waits for it.

        Leave no reference cycles, such as a queued request: garbage collection is rare (`service.process.lifecycle`).
        """
        current = self._current
        if current is not None:
            current.disconnected = current.disconnected or not current.response_complete
            current.message_event.set()
        queued = list(self.pipeline)
        self.pipeline.clear()
        self.cycle = None  # type: ignore[assignment]
        super().connection_lost(exc)
        for timer in (self._timer, self._probe_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._probe_timer = self._current = None
        self._unparsed = b""
        self._waits_for_room = False
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.cancel()
        for cycle, _ in reversed(queued):
            cycle.disconnected = True
            self._note_unanswered(cast("Scope", cycle.scope))

    def pause_writing(self) -> None:
        """Note that the client reads too slowly."""
        super().pause_writing()
        self._unread_since_s = self.loop.time()

    def resume_writing(self) -> None:
        """Note that the client has read."""
        super().resume_writing()
        self._unread_since_s = None

    # Stops

    def shutdown(self) -> None:
        """Let the last pending answer announce the close; `close_if_idle` closes idle connections."""
        self._announce_close()
        if self._answer is not None:
            self._have_waited_for(self._answer)

    def _have_waited_for(self, answer: "asyncio.Future[Any]") -> None:
        """Let the server wait for this as for its tasks, which it cancels when it has no more time."""
        self.tasks.add(answer)  # type: ignore[arg-type]  # all that it asks of a task a future has, too
        answer.add_done_callback(self.tasks.discard)

    def close_if_idle(self) -> None:
        """Close the connection if no request is pending and everything sent has been read."""
        if self._is_idle() and not self.transport.is_closing() and not _has_unread_bytes(self.transport):
            self.transport.close()

    def _announce_close(self) -> None:
        last, announced = self.cycle, self._last_cycle
        if last is None or last.response_complete or last is announced or not last.keep_alive:
            return
        if self._waits_for_room or (self.flow.read_paused and _has_unread_bytes(self.transport)):
            return  # another request follows
        if announced is not None and not announced.response_started:
            announced.keep_alive = True
        last.keep_alive, self._last_cycle = False, last

    def _is_idle(self) -> bool:
        """Return whether no request waits for an answer."""
        return self._is_answered() and not self.pipeline and not self._waits_for_room and self._last_words is None

    def _is_between_requests(self) -> bool:
        return self._is_at_head and not self._is_head_partial and self._is_idle()

    # Half-closed connections

    def _end_input(self) -> None:
        """Note that the client has shut down its sending side."""
        if self._ends:
            return
        if not self._is_at_head:
            self._fail(malformed("it ends in the middle of its body"))
        elif self._unparsed:
            self._fail(malformed("it ends in the middle of its head"))
        self._ends = True

    def _await_answers_half_closed(self) -> None:
        transport = HalfClosedTransport(self.transport)
        self.transport = transport
        for cycle in (self._current, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cycle.transport = transport
        self._probe_timer = self.loop.call_later(FIRST_PROBE_S, self._probe, transport, 2 * FIRST_PROBE_S)

    def _probe(self, transport: HalfClosedTransport, next_s: float) -> None:
        """Detect a disconnected client: it answers the first byte with a reset, and the second write fails."""
        self._probe_timer = None
        current = self._current
        if transport.is_closing() or current is None:
            return
        if current.response_started or transport.send_early():
            self._probe_timer = self.loop.call_later(next_s, self._probe, transport, min(2 * next_s, LAST_PROBE_S))

    # Malformed and incomplete requests

    def _fail(self, error: RequestError) -> None:
        clear_traceback(error)
        self._ends = True
        self._unparsed, self._waits_for_room = b"", False
        scope = self._scope_of_malformed() if self._is_at_head else cast("Scope", self.cycle.scope)
        if self._is_at_head:
            self._note_unanswered(scope, error)
        elif not self._give_up_last(error):
            self.transport.close()
            return
        path = self.url.removeprefix(self.root_path_bytes).decode("latin-1")
        request_id = self.application.request_ids.of(scope)
        answer = self._encode(problem_answer(problem_of(error), path), request_id, closes=True)
        if self._is_answered() and not self.pipeline:
            self._say_last_words(answer)
        else:
            self._last_words = answer

    def _give_up_last(self, error: RequestError) -> bool:
        """Abandon the request whose body never ends or is malformed; return False if its answer has already started."""
        broken = self.cycle
        if broken.response_started:
            broken.disconnected = not broken.response_complete
            broken.message_event.set()
            return False
        broken.disconnected, broken.waiting_for_100_continue = True, False
        broken.message_event.set()
        if broken is self._current:
            self._current = None
        else:
            self.pipeline.popleft()
            self._note_unanswered(cast("Scope", broken.scope), error)
        return True

    def _encode(self, answer: Answer, request_id: bytes | None, *, closes: bool) -> bytes:
        return encode_answer(answer, tuple(self.server_state.default_headers), request_id, closes=closes)

    def _say_last_words(self, answer: bytes) -> None:
        """Send the last answer, and discard for a moment what still arrives.

        If the connection were closed at once, a reset could reach a client that is still sending before it reads the
        answer.
        """
        self._last_words = None
        self.transport.write(answer)
        if self._had_eof or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self._is_lingering = True
        self.flow.is_held = False
        self.flow.resume_reading()
        self._since_s = self.loop.time()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(LINGER_S, self._end_linger)

    def _end_linger(self) -> None:
        self._is_lingering = False
        self.transport.close()
        self._look()

    def _discard(self, size: int) -> None:
        self._lingering_bytes += size
        if self._lingering_bytes > LINGER_BYTES and self._is_lingering:
            self.transport.close()

    def _note_unanswered(self, scope: Scope, error: RequestError | None = None) -> None:
        """Log and count a request that never reached the application; without an error, its client disconnected."""
        path = self.application.forwarding.resolve(scope)
        trace = new_trace(scope, path, self.application.request_ids.of(scope), None)
        trace.is_inference = trace.method == "POST" and path.startswith(PATHS)
        if error is None:
            trace.status, trace.error = HTTPStatus.BAD_REQUEST, CLIENT_GONE
        else:
            trace.status = error.status
            trace.fail(error.kind, error.problem)
        trace.finish(self.application.observers)

    def _scope_of_malformed(self) -> Scope:
        """Return the loggable facts of a request whose head can't be parsed."""
        path = self.url.partition(b"?")[0][:MAX_NOTED_PATH_BYTES].decode("latin-1")
        return {"method": "", "path": path, "root_path": "", "client": self.client, "headers": ()}

    # Time-outs

    def _look(self) -> None:
        """Close the connection if the client has exceeded a time-out; otherwise schedule the next check."""
        now_s = self.loop.time()
        if self.transport.is_closing():  # but not closed: the client doesn't read its answer
            self._timer = self.loop.call_later(UNREAD_ANSWER_S, self.transport.abort)
            return
        longest_s = self._longest_wait_s()
        if self._unread_since_s is not None:
            left_s = self._unread_since_s + UNREAD_ANSWER_S - now_s
            if left_s <= 0:
                self.transport.abort()
                return
        elif self._since_s is None or longest_s is None:
            left_s = self._look_after_s
        else:
            left_s = self._since_s + longest_s - now_s
            if left_s <= 0:
                self._give_up_waiting(longest_s)
        if self._is_lingering:  # it has its own time-out
            return
        self._timer = self.loop.call_later(max(MIN_LOOK_S, min(left_s, self._look_after_s)), self._look)

    @property
    def _look_after_s(self) -> float:
        return min(self.limits.keep_alive_timeout_s, self.limits.header_timeout_s)

    def _longest_wait_s(self) -> float | None:
        """Return the time-out for what the client has to send or read; None if the service has to answer."""
        limits = self.limits
        if self._is_idle():
            is_quiet = self._is_between_requests() and not self._skip_bytes
            return limits.keep_alive_timeout_s if is_quiet else limits.header_timeout_s
        if not self._is_at_head and self.cycle is self._current:
            # The application applies the first limit. Both together apply to a body that it doesn't read.
            return limits.upload_timeout_s + limits.request_timeout_s
        return None

    def _give_up_waiting(self, waited_s: float) -> None:
        if self._is_head_partial:
            self._fail(UploadTimeoutError(f"the head of the request did not arrive within {waited_s:g} s"))
        elif not self._is_at_head and not self._is_answered():
            self._fail(upload_timeout(waited_s))
        else:
            self.transport.close()


def _has_unread_bytes(transport: asyncio.Transport) -> bool:
    descriptor = transport.get_extra_info("socket").fileno()
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
