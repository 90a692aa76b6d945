"""When it makes sense to come back, from how much is waiting and how fast it leaves."""

import math
from typing import Final

LONGEST_RETRY_S: Final = 30


def retry_after_s(waiting: int, seconds_each: float) -> int:
    """Whole seconds until so many have left, 1 to 30."""
    return min(LONGEST_RETRY_S, max(1, math.ceil(waiting * seconds_each)))
