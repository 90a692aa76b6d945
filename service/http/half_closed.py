"""The transport of a connection whose client has shut down its sending side.

A client that waits for its answer and one that has gone look alike: both have sent a FIN. They differ once something
is sent to them, since the machine of one that has gone answers with a reset. So the first bytes of the answer, which
are the same for every answer, are sent one at a time while it is not there yet.
"""

import asyncio
from typing import Any, Final

FIRST_BYTES: Final = b"HTTP/1.1 "
"""First bytes of every answer, final or interim."""


class HalfClosedTransport(asyncio.Transport):
    """Writes to another transport, and leaves out of the next answer what was sent of it early."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._early_bytes = 0

    def send_early(self) -> bool:
        """Send the next byte of an answer that is not there yet; False where there are no more."""
        if self._early_bytes == len(FIRST_BYTES):
            return False
        self._transport.write(FIRST_BYTES[self._early_bytes : self._early_bytes + 1])
        self._early_bytes += 1
        return True

    def write(self, data: "bytes | bytearray | memoryview[int]") -> None:
        """Write an answer, or more of it."""
        if self._early_bytes:
            data, self._early_bytes = memoryview(data)[self._early_bytes :], 0
        self._transport.write(data)

    def close(self) -> None:
        """Close after what was written is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether it is closed, or about to be."""
        return self._transport.is_closing()

    def can_write_eof(self) -> bool:
        """Return whether `write_eof` may be called."""
        return self._transport.can_write_eof()

    def write_eof(self) -> None:
        """Shut down the sending side, too."""
        self._transport.write_eof()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the other transport knows."""
        return self._transport.get_extra_info(name, default)
