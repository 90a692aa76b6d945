"""What a request costs beside its network: about as long as a fixed piece of Python takes, times a factor.

Both scale alike from machine to machine, so that a rule about the two holds on fast and slow ones.
"""

import time
from typing import Final

TIMES: Final = 7
NUMBERS: Final = 500
REQUEST_OF_WORK: Final = 6.0
"""On the machine where it was measured (2 cores of a Xeon with AMX) the work takes 40 to 50 µs; of a request at
concurrency 64 the event loop's thread 180 µs, and the kernel and the client's side of the connection the rest."""


def request_s() -> float:
    """About how long one core is busy with a request for a small image, its network aside, in seconds."""
    return REQUEST_OF_WORK * min(_work_s() for _ in range(TIMES))


def _work_s() -> float:
    start_s = time.perf_counter()
    sorted(str(number) for number in range(NUMBERS))
    return time.perf_counter() - start_s
