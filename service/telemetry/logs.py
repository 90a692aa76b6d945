"""Log lines, as JSON or as text: the handler of `logging`, and the access log with one line a request."""

import asyncio
import json
import logging
import random
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import BinaryIO, Final, Literal

import orjson

from cifar10_serving.text import printable
from service.telemetry.trace import Trace

LogFormat = Literal["auto", "json", "text"]
EXCEPTION_INDENT: Final = "    "
FLUSH_AFTER_S: Final = 0.1
FLUSH_LINES: Final = 500
ALWAYS_LOGGED: Final = frozenset({HTTPStatus.INTERNAL_SERVER_ERROR, 0})
"""Statuses that are logged whatever the sample rate: a failure of the service, and no answer at all (0)."""
MAX_TEXT_LENGTH: Final = 500
"""Maximum length of a path, a requested model or a problem's detail in the log; clients may send far longer ones."""
NOT_READ: Final = "(not a request)"
"""Text shown in place of a request line that can't be read."""
NOT_LOGGED: Final = frozenset({"/livez", "/readyz", "/metrics", "/stats", "/instance"})
"""Paths that machines and open pages request every few seconds."""


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time (UTC), level, logger, message, and the exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json_line(entry).decode()


class TextFormatter(logging.Formatter):
    """A record as a line of text: local time, level, message; an exception below it, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        when = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        lines = [text_line(when, record.levelname.lower(), record.getMessage())]
        if record.exc_info:
            lines += [EXCEPTION_INDENT + printable(line) for line in self.formatException(record.exc_info).splitlines()]
        return "\n".join(lines)


def json_line(entry: Mapping[str, object]) -> bytes:
    """Return an entry as a line of JSON that has printable characters only, without its end.

    orjson does not escape DEL, C1 controls and bidi marks, which terminals act on, and rejects lone surrogates.
    """
    try:
        text = orjson.dumps(entry).decode()
    except TypeError:
        text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
    if not text.isprintable():
        text = "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
    return text.encode()


def text_line(when: str, level: str, message: str) -> str:
    """Return a line for people, without its end."""
    return f"{when} {level:<7} {printable(message)}"


def is_for_people(log_format: LogFormat) -> bool:
    """Return True if lines are text: the setting says so, or standard error is a terminal."""
    if log_format != "auto":
        return log_format == "text"
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed
        return False


def configure_logging(level: str, log_format: LogFormat) -> None:
    """Set up the logging of the service, uvicorn and libraries; Python warnings become log entries, too."""
    logging.captureWarnings(capture=True)
    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter() if is_for_people(log_format) else JsonFormatter())
    # Not dictConfig, which closes the handlers of all loggers: Ray's replicas have some that it needs.
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


class RequestLog:
    """The access log: a line for each finished request, or for a sample of them.

    Lines are buffered for a moment and written together, which costs a fraction of a write per line.

    Args:
        sample_rate: fraction of the requests that are logged, 0 to 1; failures of the service always are.
        stream: destination of the lines.
        for_people: write text instead of JSON.
    """

    def __init__(self, sample_rate: float, stream: BinaryIO | None = None, *, for_people: bool = False) -> None:
        self._sample_rate = sample_rate
        self._stream = stream
        self._line = _text if for_people else _json
        self._lines: list[bytes] = []
        self._timer: asyncio.Handle | None = None

    def __call__(self, trace: Trace) -> None:
        """Log the request if it is in the sample."""
        if trace.path in NOT_LOGGED:
            return
        chosen = self._sample_rate >= 1 or random.random() < self._sample_rate  # noqa: S311  # a sample, not a secret
        if not chosen and trace.status not in ALWAYS_LOGGED:
            return
        self._lines.append(self._line(trace))
        if len(self._lines) >= FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER_S, self.flush)

    def flush(self) -> None:
        """Write the buffered lines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            stream = self._stream or sys.stderr.buffer
            stream.write(b"\n".join([*self._lines, b""]))
            stream.flush()
            self._lines.clear()


def _json(trace: Trace) -> bytes:
    """Return one request as a line of JSON."""
    entry: dict[str, object] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": "info" if trace.status < HTTPStatus.INTERNAL_SERVER_ERROR else "warning",
        "logger": "service.requests",
        "request_id": trace.request_id[:MAX_TEXT_LENGTH],
        "method": trace.method[:MAX_TEXT_LENGTH],
        "path": trace.path[:MAX_TEXT_LENGTH],
        "status": trace.status,
        "total_ms": round(1000 * trace.total_s, 3),
    }
    if trace.client is not None:
        entry["client"] = trace.client[:MAX_TEXT_LENGTH]
    if trace.error is not None:
        entry["error"] = trace.error[:MAX_TEXT_LENGTH]
    if trace.detail is not None:
        entry["detail"] = trace.detail[:MAX_TEXT_LENGTH]
    if trace.requested_model is not None:
        entry["requested_model"] = trace.requested_model[:MAX_TEXT_LENGTH]
    if trace.model is not None:
        entry["model"] = trace.model[:MAX_TEXT_LENGTH]
        entry["version"] = trace.version
    if trace.decode_s is not None:
        entry["decode_ms"] = round(1000 * trace.decode_s, 3)
    computed = trace.computed
    if computed is not None:
        entry["queue_ms"] = round(1000 * computed.queue_s, 3)
        entry["compute_ms"] = round(1000 * computed.compute_s, 3)
        entry["batch_rows"] = computed.batch_rows
    if trace.from_cache:
        entry["from_cache"] = True
    return json_line(entry)


def _text(trace: Trace) -> bytes:
    """Return one request as a line for people."""
    asked = f"{trace.method} {trace.path}".strip() or NOT_READ
    parts = [asked[:MAX_TEXT_LENGTH], str(trace.status or "no answer")]
    parts.append(f"{trace.total_s * 1000:.1f} ms")
    if trace.model is not None:
        parts.append(f"{trace.model}/{trace.version}")
    elif trace.requested_model is not None:
        parts.append(f"requested {trace.requested_model[:MAX_TEXT_LENGTH]}")
    if trace.client is not None:
        parts.append(f"from {trace.client}")
    if trace.detail is not None or trace.error is not None:
        parts.append((trace.detail or trace.error or "")[:MAX_TEXT_LENGTH])
    when = datetime.now(UTC).astimezone().strftime("%H:%M:%S")
    level = "info" if trace.status < HTTPStatus.INTERNAL_SERVER_ERROR else "warning"
    return text_line(when, level, "  ".join(parts)).encode(errors="backslashreplace")
