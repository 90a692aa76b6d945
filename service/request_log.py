"""The request log: one line on standard error for each request, or for a share of them; JSON, or text on a terminal.

Lines are collected for a moment and written together, which costs a fraction of a write each. What the service itself
has to say goes through `logging` (`service.logging`).
"""

import asyncio
import random
import sys
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import BinaryIO, Final

from service.core.observation import Observation
from service.logging import json_string, text_line

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

    def __call__(self, observation: Observation) -> None:
        """Log it, or not."""
        if observation.path in NOT_LOGGED:
            return
        chosen = self._share >= 1 or random.random() < self._share  # noqa: S311  # a sample, not a secret
        if not chosen and observation.status not in ALWAYS_LOGGED:
            return
        self._lines.append(self._line(observation))
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


def _level(observation: Observation) -> str:
    return "info" if observation.status < HTTPStatus.INTERNAL_SERVER_ERROR else "warning"


def _json(observation: Observation) -> bytes:
    """One request as JSON, written by hand: every request has one."""
    head = (
        f'{{"time":"{datetime.now(UTC).isoformat(timespec="milliseconds")}","level":"{_level(observation)}",'
        f'"logger":"service.requests","request_id":{_string(observation.request_id)},'
        f'"method":{_string(observation.method)},"path":{_string(observation.path)},'
        f'"status":{observation.status},"total_ms":{observation.total_s * 1000:.3f}'
    )
    parts = [head]
    if observation.client is not None:
        parts.append(f'"client":{_string(observation.client)}')
    if observation.error is not None:
        parts.append(f'"error":{_string(observation.error)}')
    if observation.detail is not None:
        parts.append(f'"detail":{_string(observation.detail)}')
    if observation.requested_model is not None:
        parts.append(f'"requested_model":{_string(observation.requested_model)}')
    if observation.model is not None:
        parts.append(f'"model":{_string(observation.model)},"version":{observation.version}')
    if observation.decode_s is not None:
        parts.append(f'"decode_ms":{observation.decode_s * 1000:.3f}')
    computed = observation.computed
    if computed is not None:
        parts.append(
            f'"queue_ms":{computed.queue_s * 1000:.3f},"compute_ms":{computed.compute_s * 1000:.3f},'
            f'"batch_rows":{computed.batch_rows}'
        )
    if observation.from_cache:
        parts.append('"from_cache":true')
    return f"{','.join(parts)}}}".encode()


def _text(observation: Observation) -> bytes:
    """One request as a line for people."""
    asked = f"{observation.method} {observation.path}".strip() or NOT_READ
    parts = [asked[:MAX_TEXT_LENGTH], str(observation.status or "no answer")]
    parts.append(f"{observation.total_s * 1000:.1f} ms")
    if observation.model is not None:
        parts.append(f"{observation.model}/{observation.version}")
    elif observation.requested_model is not None:
        parts.append(f"requested {observation.requested_model[:MAX_TEXT_LENGTH]}")
    if observation.client is not None:
        parts.append(f"from {observation.client}")
    if observation.detail is not None or observation.error is not None:
        parts.append((observation.detail or observation.error or "")[:MAX_TEXT_LENGTH])
    when = datetime.now(UTC).astimezone().strftime("%H:%M:%S")
    return text_line(when, _level(observation), "  ".join(parts)).encode(errors="backslashreplace")


def _string(text: str) -> str:
    text = text[:MAX_TEXT_LENGTH]
    return f'"{text}"' if text.isascii() and text.isalnum() else _escaped(text)


@lru_cache(maxsize=256)
def _escaped(text: str) -> str:
    return json_string(text)
