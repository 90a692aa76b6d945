"""The request log: one JSON object a line on standard error for each request, or for a share of them.

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

from pydantic_core import to_json

from service.core.observation import Observation

FLUSH_AFTER_S: Final = 0.1
FLUSH_LINES: Final = 500
ALWAYS_LOGGED: Final = frozenset({HTTPStatus.INTERNAL_SERVER_ERROR, 0})
"""A failure of the service, and a request that ended without any answer."""


NOT_LOGGED: Final = frozenset({"/livez", "/readyz", "/metrics", "/stats"})
"""Asked every few seconds by machines and open pages."""


class RequestLog:
    """Takes note of requests that have ended.

    Args:
        share: of the requests that are logged, 0 to 1; failures of the service always are.
        stream: where lines go.
    """

    def __init__(self, share: float, stream: BinaryIO | None = None) -> None:
        self._share = share
        self._stream = stream
        self._lines: list[bytes] = []
        self._timer: asyncio.Handle | None = None

    def __call__(self, observation: Observation) -> None:
        """Log it, or not."""
        if observation.path in NOT_LOGGED:
            return
        chosen = self._share >= 1 or random.random() < self._share  # noqa: S311  # a sample, not a secret
        if not chosen and observation.status not in ALWAYS_LOGGED:
            return
        self._lines.append(_line(observation))
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


def _line(observation: Observation) -> bytes:
    """One request as JSON, written by hand: every request has one."""
    level = "info" if observation.status < HTTPStatus.INTERNAL_SERVER_ERROR else "warning"
    head = (
        f'{{"time":"{datetime.now(UTC).isoformat(timespec="milliseconds")}","level":"{level}",'
        f'"logger":"service.requests","request_id":{_string(observation.request_id)},'
        f'"method":{_string(observation.method)},"path":{_string(observation.path)},'
        f'"status":{observation.status},"total_ms":{observation.total_s * 1000:.3f}'
    )
    parts = [head]
    if observation.error is not None:
        parts.append(f'"error":{_string(observation.error)}')
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


def _string(text: str) -> str:
    return f'"{text}"' if text.isascii() and text.isalnum() else _escaped(text)


@lru_cache(maxsize=256)
def _escaped(text: str) -> str:
    return to_json(text).decode()
