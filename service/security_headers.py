"""The headers that every answer carries, whichever part of the service writes it."""

from typing import Final

SECURITY_HEADERS: Final = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
"""No browser guesses another type, and no link from here tells its target which image service somebody uses."""
