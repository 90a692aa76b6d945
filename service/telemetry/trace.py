"""The trace of one request: which version answered, how it ended, and how long each phase took.

Each part of the service fills in what it knows; metrics and the access log read it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.inference.scheduler import Computed


@dataclass(slots=True)
class Trace:
    """The trace of one request. `is_inference` marks predictions; `error` is a problem's kind, `detail` its text.

    `client` is the address and port that the request came from. `requested_model` is the name in the request, which may
    not exist; `model` and `version` answered it. `computed` is None if nothing was computed.
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
        """Record the requested model and version; nothing if the request leaves them to the service."""
        if model is not None:
            self.requested_model = model if version is None else f"{model}/{version}"

    def fail(self, kind: str, detail: str | None = None) -> None:
        """Record the problem's kind and detail of a failed request."""
        self.error, self.detail = kind, detail

    def finish(self, observers: "Sequence[Observer]") -> None:
        """Set the total time, and notify the observers."""
        self.total_s = time.monotonic() - self.start_s
        for observer in observers:
            observer(self)


Observer = Callable[[Trace], None]
"""Records a finished request; called on the event loop, so it must be fast."""
