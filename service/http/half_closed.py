"""The transport of a connection whose client has shut down its sending side.

A client that waits for its answer can't be distinguished from one that has disconnected: both have sent a FIN. But the
machine of a disconnected client responds to data with a reset. So the first bytes, which are the same for every answer,
are sent one at a time while the answer is computed.
"""

import asyncio
from typing import Any, Final

FIRST_BYTES: Final = b"HTTP/1.1 "
"""The first bytes of every answer, final or interim."""


class HalfClosedTransport(asyncio.Transport):
    """Writes to another transport, and omits from the answer the bytes that were sent early."""

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
