"""The request log: one JSON object a line on standard error for each request, or for a share of them.

Lines are collected for a moment and written together, which costs a fraction of a write each. What the service itself
has to say goes through `logging` (`service.logging`).
"""

import asyncio
import random
import sys
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, BinaryIO, Final

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
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, observation: Observation) -> None:
        """Log it, or not."""
        if observation.path in NOT_LOGGED:
            return
        chosen = self._share >= 1 or random.random() < self._share  # noqa: S311  # a sample, not a secret
        if not chosen and observation.status not in ALWAYS_LOGGED:
            return
        self._lines.append(to_json(_entry(observation)))
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


def _entry(observation: Observation) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": "info" if observation.status < HTTPStatus.INTERNAL_SERVER_ERROR else "warning",
        "logger": "service.requests",
        "request_id": observation.request_id,
        "method": observation.method,
        "path": observation.path,
        "status": observation.status,
        "total_ms": _ms(observation.total_s),
    }
    if observation.error is not None:
        entry["error"] = observation.error
    if observation.model is not None:
        entry["model"] = observation.model
        entry["version"] = observation.version
    if observation.decode_s is not None:
        entry["decode_ms"] = _ms(observation.decode_s)
    if observation.computed is not None:
        entry["queue_ms"] = _ms(observation.computed.queue_s)
        entry["compute_ms"] = _ms(observation.computed.compute_s)
        entry["batch_rows"] = observation.computed.batch_rows
    if observation.from_cache:
        entry["from_cache"] = True
    return entry


def _ms(duration_s: float) -> float:
    return round(duration_s * 1000, 3)
