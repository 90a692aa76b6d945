"""What is noted of one request on its way: who answered it, how it ended, where its time went.

Filled in by whoever knows; metrics and the request log are made of it (`service.http.request_trace`).
"""

import time
from dataclasses import dataclass, field

from service.inference.batch_queue import Computed


@dataclass(slots=True)
class Trace:
    """One request. `is_inference`: it asks for predictions. `error` is a problem's kind, `detail` its words.

    `client` is the address and port that it came from, `requested_model` what it names, which may not exist, and
    `model` and `version` who answers. `computed` is None where nothing was computed.
    """

    method: str = ""
    path: str = ""
    request_id: str = ""
    start_s: float = field(default_factory=time.monotonic)
    total_s: float = 0.0
    status: int = 0
    is_inference: bool = False
    error: str | None = None
    detail: str | None = None
    client: str | None = None
    requested_model: str | None = None
    model: str | None = None
    version: int | None = None
    decode_s: float | None = None
    computed: Computed | None = None
    from_cache: bool = False

    def request_model(self, model: str | None, version: int | str | None) -> None:
        """Note what is asked for; nothing where that is left to the service."""
        if model is not None:
            self.requested_model = model if version is None else f"{model}/{version}"

    def fail(self, kind: str, detail: str | None = None) -> None:
        """Note why there is no answer: the problem's kind, and what it says."""
        self.error, self.detail = kind, detail
