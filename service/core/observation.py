"""What is noted of one request on its way: who answered it, how it ended, where its time went.

Filled in by whoever knows; metrics and the request log are made of it (`service.observing`).
"""

import time
from dataclasses import dataclass, field

from service.core.batch_queue import Computed


@dataclass(slots=True)
class Observation:
    """One request. `is_inference`: it asks for predictions. `error` is a problem's kind.

    `computed` is None where nothing was computed.
    """

    method: str = ""
    path: str = ""
    request_id: str = ""
    start_s: float = field(default_factory=time.monotonic)
    total_s: float = 0.0
    status: int = 0
    is_inference: bool = False
    error: str | None = None
    model: str | None = None
    version: int | None = None
    decode_s: float | None = None
    computed: Computed | None = None
    from_cache: bool = False
