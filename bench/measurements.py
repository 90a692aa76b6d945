"""The records of a run as they are stored in rounds.json: what was measured, on what, by which command.

Only raw measurements; ratios are `bench.ratios`' and goals `bench.goals`' part, so that both can be told anew
from an old run.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NonNegative = Annotated[float, Field(ge=0)]


WANTED_SHARE = 0.99
"""Of the wanted rate; less is not the load that was planned."""


class Record(BaseModel):
    """A record that is never changed once made and holds nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Load(Record):
    """What wrk saw at one concurrency. Latencies are of whole answers, in ms, whatever their status."""

    requests: int
    duration_s: NonNegative
    p50_ms: NonNegative
    p90_ms: NonNegative
    p99_ms: NonNegative
    max_ms: NonNegative
    error_statuses: int
    """Answers with a status of 400 and above."""
    socket_errors: dict[str, int]
    """connect, read, write and timeout -> how many."""

    @property
    def requests_per_s(self) -> float:
        """Good answers in a second."""
        return (self.requests - self.error_statuses) / self.duration_s

    @property
    def errors(self) -> int:
        """Everything that was no good answer."""
        return self.error_statuses + sum(self.socket_errors.values())


class BinaryInfer(Record):
    """V2 infer with several images in binary, one request at a time: means over the same requests."""

    rows: int
    requests: int
    client_ms: NonNegative
    """From the first byte sent to the last one received."""
    service_ms: NonNegative
    """In the service: from a request's head to its answer."""
    runtime_ms: NonNegative
    """In the runtime's call."""


class Visit(Record):
    """One server with one model: started, checked, loaded at each concurrency, stopped."""

    server: str
    model: str | None
    """None for a floor, which knows no model."""
    ready_s: NonNegative | None = None
    """From the start of the process until it says that it is ready."""
    rss_ready_bytes: int | None = None
    rss_loaded_bytes: int | None = None
    """Resident memory of the whole process tree, once ready and after the last load."""
    loads: dict[int, Load] = {}
    """By concurrency."""
    binary_infer: BinaryInfer | None = None
    """Of our own server in float32."""
    failure: str | None = None
    """Why there is nothing, or not all."""


class RuntimeAlone(Record):
    """The runtime without a server: images/s by batch size."""

    model: str
    precision: str
    images_per_s: dict[int, float]

    @property
    def best_images_per_s(self) -> float:
        """At its best batch."""
        return max(self.images_per_s.values())


class Overload(Record):
    """Requests sent in an open loop, faster than the server can answer them."""

    model: str
    capacity_per_s: NonNegative
    """The most good answers in a second that the same round saw at any concurrency."""
    wanted_per_s: NonNegative
    offered_per_s: NonNegative
    """What was sent: the wanted rate, unless every connection was busy."""
    duration_s: NonNegative
    statuses: dict[int, int]
    """Status -> answers."""
    unanswered: int
    """Requests without an answer: refused, reset, or nothing until the end."""
    rejected_p99_ms: NonNegative | None
    answered_p99_ms: NonNegative | None
    lateness_p99_ms: NonNegative
    """How late the client itself sent."""
    not_sent: int
    """Requests that found no free connection; they count for nothing else."""

    @property
    def was_overload(self) -> bool:
        """Whether the server had more than it could take: it refused some, or got the wanted rate in spite of it.

        Otherwise the client waited for free connections, at the pace of the server.
        """
        refused = self.statuses.get(503, 0) + self.statuses.get(504, 0)
        return refused > 0 or self.offered_per_s >= self.wanted_per_s * WANTED_SHARE

    @property
    def goodput_per_s(self) -> float:
        """Answers with status 200 in a second."""
        return self.statuses.get(200, 0) / self.duration_s

    @property
    def other_errors(self) -> int:
        """Everything else than 200, 503 and 504."""
        return self.unanswered + sum(n for status, n in self.statuses.items() if status not in {200, 503, 504})


class WholeStart(Record):
    """Our server with every published version, as a user starts it."""

    models: list[str]
    first_ready_s: NonNegative | None = None
    """Of the first start, which finds nothing that was compiled before."""
    ready_s: NonNegative
    """Of the next one."""
    rss_ready_bytes: int
    rss_loaded_bytes: int
    """After a short load on each model."""
    import_s: list[float]
    """What `import service.app` took, in a new process each."""


class Round(Record):
    """Everything that was measured within one round; ratios are taken within it only."""

    number: int
    visits: list[Visit] = []
    runtime_alone: list[RuntimeAlone] = []
    whole_start: WholeStart | None = None
    overload: Overload | None = None

    def load(self, server: str, model: str | None, concurrency: int) -> Load | None:
        """What was measured of this server, or None."""
        visit = self.visit(server, model)
        return visit.loads.get(concurrency) if visit else None

    def visit(self, server: str, model: str | None) -> Visit | None:
        """The visit to this server with this model, or None."""
        return next((visit for visit in self.visits if (visit.server, visit.model) == (server, model)), None)


class Machine(Record):
    """What it ran on."""

    cpu: str
    cores: int
    cpu_features: list[str]
    memory_bytes: int
    system: str


class Results(Record):
    """A whole run."""

    date: str
    commit: str
    command: str
    seconds: float
    concurrency: list[int]
    servers: list[str]
    models: dict[str, int]
    """Model -> the version that was measured."""
    unpublished: list[str]
    unavailable: dict[str, str] = {}
    """Server -> why it could not be installed or measured."""
    versions: dict[str, dict[str, str]] = {}
    """Server -> package -> version."""
    machine: Machine
    rounds: list[Round] = []

    def write(self, file: Path) -> None:
        """Store as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_results(file: Path) -> Results:
    """A stored run.

    Raises:
        OSError: it can't be read.
        pydantic.ValidationError: it is not such a run.
    """
    return Results.model_validate_json(file.read_bytes())
