"""Log lines, as JSON or as text: the handler of `logging`, and the access log with one line a request."""

import asyncio
import json
import logging
import logging.config
import random
import sys
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import BinaryIO, Final, Literal

from cifar10_serving.text import printable
from service.telemetry.trace import Trace

LogFormat = Literal["auto", "json", "text"]
EXCEPTION_INDENT: Final = "    "


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time (UTC), level, logger, message, and the exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return "{" + ", ".join(f'"{name}": {json_string(value)}' for name, value in entry.items()) + "}"


class TextFormatter(logging.Formatter):
    """A record as a line of text: local time, level, message; an exception below it, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        when = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        lines = [text_line(when, record.levelname.lower(), record.getMessage())]
        if record.exc_info:
            lines += [EXCEPTION_INDENT + printable(line) for line in self.formatException(record.exc_info).splitlines()]
        return "\n".join(lines)


def json_string(text: str) -> str:
    """The text as a JSON string of printable characters."""
    quoted = json.dumps(text, ensure_ascii=False)
    if quoted.isprintable():
        return quoted
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in quoted)


def text_line(when: str, level: str, message: str) -> str:
    """A line for people, without its end."""
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
    """Have the service, uvicorn and libraries log so; their warnings become log entries, too."""
    logging.captureWarnings(capture=True)
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"lines": {"()": TextFormatter if is_for_people(log_format) else JsonFormatter}},
            "handlers": {"standard_error": {"class": "logging.StreamHandler", "formatter": "lines"}},
            "root": {"handlers": ["standard_error"], "level": level.upper()},
        }
    )


FLUSH_AFTER_S: Final = 0.1
FLUSH_LINES: Final = 500
ALWAYS_LOGGED: Final = frozenset({HTTPStatus.INTERNAL_SERVER_ERROR, 0})
"""A failure of the service, and a request that ended without any answer."""
MAX_TEXT_LENGTH: Final = 500
"""Limit of a path, a requested model or a problem's detail in the log; clients may send far longer ones."""


NOT_READ: Final = "(not a request)"
"""Text shown in place of a request line that can't be read."""
NOT_LOGGED: Final = frozenset({"/livez", "/readyz", "/metrics", "/stats"})
"""Asked every few seconds by machines and open pages."""


class RequestLog:
    """Takes note of requests that have ended.

    Args:
        share: of the requests that are logged, 0 to 1; failures of the service always are.
        stream: where lines go.
        for_people: lines are text instead of JSON.
    """

    def __init__(self, share: float, stream: BinaryIO | None = None, *, for_people: bool = False) -> None:
        self._share = share
        self._stream = stream
        self._line = _text if for_people else _json
        self._lines: list[bytes] = []
        self._timer: asyncio.Handle | None = None

    def __call__(self, trace: Trace) -> None:
        """Log it, or not."""
        if trace.path in NOT_LOGGED:
            return
        chosen = self._share >= 1 or random.random() < self._share  # noqa: S311  # a sample, not a secret
        if not chosen and trace.status not in ALWAYS_LOGGED:
            return
        self._lines.append(self._line(trace))
        if len(self._lines) >= FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER_S, self.flush)

    def flush(self) -> None:
        """Write what was collected."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            stream = self._stream or sys.stderr.buffer
            stream.write(b"\n".join([*self._lines, b""]))
            stream.flush()
            self._lines.clear()


def _level(trace: Trace) -> str:
    return "info" if trace.status < HTTPStatus.INTERNAL_SERVER_ERROR else "warning"


def _json(trace: Trace) -> bytes:
    """One request as JSON, written by hand: every request has one."""
    head = (
        f'{{"time":"{datetime.now(UTC).isoformat(timespec="milliseconds")}","level":"{_level(trace)}",'
        f'"logger":"service.requests","request_id":{_string(trace.request_id)},'
        f'"method":{_string(trace.method)},"path":{_string(trace.path)},'
        f'"status":{trace.status},"total_ms":{trace.total_s * 1000:.3f}'
    )
    parts = [head]
    if trace.client is not None:
        parts.append(f'"client":{_string(trace.client)}')
    if trace.error is not None:
        parts.append(f'"error":{_string(trace.error)}')
    if trace.detail is not None:
        parts.append(f'"detail":{_string(trace.detail)}')
    if trace.requested_model is not None:
        parts.append(f'"requested_model":{_string(trace.requested_model)}')
    if trace.model is not None:
        parts.append(f'"model":{_string(trace.model)},"version":{trace.version}')
    if trace.decode_s is not None:
        parts.append(f'"decode_ms":{trace.decode_s * 1000:.3f}')
    computed = trace.computed
    if computed is not None:
        parts.append(
            f'"queue_ms":{computed.queue_s * 1000:.3f},"compute_ms":{computed.compute_s * 1000:.3f},'
            f'"batch_rows":{computed.batch_rows}'
        )
    if trace.from_cache:
        parts.append('"from_cache":true')
    return f"{','.join(parts)}}}".encode()


def _text(trace: Trace) -> bytes:
    """One request as a line for people."""
    asked = f"{trace.method} {trace.path}".strip() or NOT_READ
    parts = [asked[:MAX_TEXT_LENGTH], str(trace.status or "no answer")]
    parts.append(f"{trace.total_s * 1000:.1f} ms")
    if trace.model is not None:
        parts.append(f"{trace.model}/{trace.version}")
    elif trace.requested_model is not None:
        parts.append(f"asked for {trace.requested_model[:MAX_TEXT_LENGTH]}")
    if trace.client is not None:
        parts.append(f"from {trace.client}")
    if trace.detail is not None or trace.error is not None:
        parts.append((trace.detail or trace.error or "")[:MAX_TEXT_LENGTH])
    when = datetime.now(UTC).astimezone().strftime("%H:%M:%S")
    return text_line(when, _level(trace), "  ".join(parts)).encode(errors="backslashreplace")


def _string(text: str) -> str:
    text = text[:MAX_TEXT_LENGTH]
    return f'"{text}"' if text.isascii() and text.isalnum() else _escaped(text)


@lru_cache(maxsize=256)
def _escaped(text: str) -> str:
    return json_string(text)
