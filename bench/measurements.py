"""The records of a run as stored in rounds.json: measurements, machine, command.

They are raw measurements. `bench.ratios` and `bench.goals` derive ratios and goals, so these can be recomputed for an
old run.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NonNegative = Annotated[float, Field(ge=0)]


WANTED_SHARE = 0.99
"""Share of the wanted rate; below it, the planned load was not reached."""


class Record(BaseModel):
    """An immutable record without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Load(Record):
    """The measurement of wrk at one concurrency; latencies are those of complete answers of any status, in ms."""

    requests: int
    duration_s: NonNegative
    p50_ms: NonNegative
    p90_ms: NonNegative
    p99_ms: NonNegative
    max_ms: NonNegative
    error_statuses: int
    """Answers with a status of 400 and above."""
    socket_errors: dict[str, int]
    """connect, read, write and timeout -> count."""

    @property
    def requests_per_s(self) -> float:
        """Good answers per second."""
        return (self.requests - self.error_statuses) / self.duration_s

    @property
    def errors(self) -> int:
        """Number of requests without a good answer."""
        return self.error_statuses + sum(self.socket_errors.values())


class BinaryInfer(Record):
    """V2 inference with several images in binary, one request at a time; values are means over the same requests."""

    rows: int
    requests: int
    client_ms: NonNegative
    """From the first byte sent to the last one received."""
    service_ms: NonNegative
    """Time in the service, from a request's head to its answer."""
    runtime_ms: NonNegative
    """Time in the runtime's call."""


class Trial(Record):
    """A trial: one server with one model, started, checked, put under load at each concurrency, stopped."""

    server: str
    model: str | None
    """None for an HTTP baseline, which has no model."""
    ready_s: NonNegative | None = None
    """From the start of the process until it is ready."""
    rss_ready_bytes: int | None = None
    rss_loaded_bytes: int | None = None
    """Resident memory of the whole process tree, when ready and after the last load."""
    loads: dict[int, Load] = {}
    """Concurrency -> measurement with small images."""
    photograph_loads: dict[str, dict[int, Load]] = {}
    """Kind of load -> concurrency -> measurement."""
    binary_infer: BinaryInfer | None = None
    """Only for our own server in float32 with one worker."""
    failure: str | None = None
    """The reason why the trial failed, if it did."""


class RuntimeAlone(Record):
    """The runtime without a server: images/s by batch size, in two layouts."""

    model: str
    precision: str
    images_per_s: dict[int, float]
    """One call at a time, on all cores."""
    call_a_core_images_per_s: dict[int, float] = {}
    """A call on each core, all with batches of this size."""

    def best_images_per_s(self, largest_batch: int | None = None) -> float | None:
        """Return images/s in the best layout at the best batch size, of those up to the largest one."""
        rates = [*self.images_per_s.items(), *self.call_a_core_images_per_s.items()]
        return max((rate for batch, rate in rates if largest_batch is None or batch <= largest_batch), default=None)


class Overload(Record):
    """Open-loop load beyond the server's capacity."""

    model: str
    capacity_per_s: NonNegative
    """The highest rate of good answers in the same round at any concurrency."""
    wanted_per_s: NonNegative
    offered_per_s: NonNegative
    """The rate that was sent: the wanted rate, unless every connection was busy."""
    duration_s: NonNegative
    statuses: dict[int, int]
    """Status -> number of answers."""
    unanswered: int
    """Requests without an answer: connection refused, reset, or no answer until the end."""
    rejected_p99_ms: NonNegative | None
    answered_p99_ms: NonNegative | None
    lateness_p99_ms: NonNegative
    """Delay of the client's own sending."""
    not_sent: int
    """Requests that found no free connection; they are not counted elsewhere."""

    @property
    def was_overload(self) -> bool:
        """True if the server was overloaded: it rejected requests, or received the wanted rate anyway.

        Otherwise the client waited for free connections, at the server's pace.
        """
        refused = self.statuses.get(503, 0) + self.statuses.get(504, 0)
        return refused > 0 or self.offered_per_s >= self.wanted_per_s * WANTED_SHARE

    @property
    def goodput_per_s(self) -> float:
        """Answers with status 200 per second."""
        return self.statuses.get(200, 0) / self.duration_s

    @property
    def other_errors(self) -> int:
        """Number of outcomes other than 200, 503 and 504."""
        return self.unanswered + sum(n for status, n in self.statuses.items() if status not in {200, 503, 504})


class WholeStart(Record):
    """Our server with all published versions, started as a user does."""

    models: list[str]
    first_ready_s: NonNegative | None = None
    """The first start, without a cache of compiled models."""
    ready_s: NonNegative
    """The next start."""
    rss_ready_bytes: int
    rss_loaded_bytes: int
    """After a short load on each model."""
    import_s: list[float]
    """Times of `import service.app`, each in a new process."""


class Round(Record):
    """The measurements of one round; ratios compare values of the same round only."""

    number: int
    trials: list[Trial] = []
    runtime_alone: list[RuntimeAlone] = []
    whole_start: WholeStart | None = None
    overload: Overload | None = None

    def load(self, server: str, model: str | None, concurrency: int, kind: str | None = None) -> Load | None:
        """Return the measurement of a server at a concurrency, or None.

        Args:
            kind: the kind of load; None for small images.
        """
        trial = self.trial(server, model)
        if trial is None:
            return None
        return (trial.loads if kind is None else trial.photograph_loads.get(kind, {})).get(concurrency)

    def trial(self, server: str, model: str | None) -> Trial | None:
        """Return the trial of a server with a model, or None."""
        return next((trial for trial in self.trials if (trial.server, trial.model) == (server, model)), None)


class Machine(Record):
    """The machine of the measurements."""

    cpu: str
    cores: int
    cpu_features: list[str]
    memory_bytes: int
    system: str


class Results(Record):
    """The results of a run."""

    date: str
    commit: str
    command: str
    seconds: float
    concurrency: list[int]
    photograph_loads: dict[str, list[int]] = {}
    """Kind of load -> its concurrencies; measured with one model."""
    servers: list[str]
    models: dict[str, int]
    """Model -> measured version."""
    unpublished: list[str]
    unavailable: dict[str, str] = {}
    """Server -> reason why it could not be installed or measured."""
    versions: dict[str, dict[str, str]] = {}
    """Server -> package -> version."""
    machine: Machine
    rounds: list[Round] = []

    def write(self, file: Path) -> None:
        """Write the results as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_results(file: Path) -> Results:
    """Read the stored results of a run.

    Raises:
        OSError: the file can't be read.
        pydantic.ValidationError: the file has another format.
    """
    return Results.model_validate_json(file.read_bytes())
