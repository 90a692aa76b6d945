"""The cost of a request without its network, estimated from the time of a fixed piece of Python times a factor.

Both scale in the same way between machines, so a rule based on them holds on fast and slow ones.
"""

import time
from typing import Final

TIMES: Final = 7
NUMBERS: Final = 500
REQUEST_OF_WORK: Final = 6.0
"""On the machine of the measurement (2 cores of a Xeon with AMX) the fixed work takes 40 to 50 µs. At concurrency 64 a
request takes 180 µs of the event loop's thread, and further time of the kernel and the client's side."""


def request_s() -> float:
    """Return the estimated time of one core for a small image's request without its network, in seconds."""
    return REQUEST_OF_WORK * min(_work_s() for _ in range(TIMES))


def _work_s() -> float:
    start_s = time.perf_counter()
    sorted(str(number) for number in range(NUMBERS))
    return time.perf_counter() - start_s
