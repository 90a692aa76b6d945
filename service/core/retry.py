"""When it makes sense to come back: from how much is waiting and how fast it leaves, or after a stop."""

import math
from typing import Final

from service.errors import UnavailableError

LONGEST_RETRY_S: Final = 30
RETRY_AFTER_STOP_S: Final = 5


def retry_after_s(waiting: int, seconds_each: float) -> int:
    """Whole seconds until so many have left, 1 to 30."""
    return min(LONGEST_RETRY_S, max(1, math.ceil(waiting * seconds_each)))


def stopping() -> UnavailableError:
    """The error of what the service no longer does because it is stopping."""
    return UnavailableError("the service is stopping", retry_after_s=RETRY_AFTER_STOP_S)
