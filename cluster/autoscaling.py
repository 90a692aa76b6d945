"""The number of replicas, from the machines and from the load that the replicas report.

Ray counts no requests: they don't pass through its code (`cluster.protocol`).
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

if TYPE_CHECKING:  # the policy runs in Ray's controller, which needs nothing of the service
    from service.app import Service

LOOK_EVERY_S: Final = 2.0
CPU: Final = "CPU"

Nodes = Callable[[], list[dict[str, Any]]]


class Context(Protocol):
    """The part of Ray's `AutoscalingContext` that the policy reads."""

    aggregated_metrics: Mapping[str, Mapping[Any, float]] | None


class Load:
    """The load of one replica, as Ray collects it.

    Args:
        service: the service.
        cores: the cores that it may use.
        processor_s: returns the processor time of this process in seconds.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        service: "Service",
        cores: int,
        *,
        processor_s: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._cores = cores
        self._processor_s = processor_s
        self._clock = clock
        self._last = (processor_s(), clock())

    def report(self) -> dict[str, float]:
        """Return the pending requests, the queued images, and the share of the cores used since the last report."""
        last_processor_s, last_s = self._last
        processor_s, now_s = self._last = (self._processor_s(), self._clock())
        elapsed_s = now_s - last_s
        share = (processor_s - last_processor_s) / elapsed_s / self._cores if elapsed_s > 0 else 0.0
        return {
            "pending_requests": float(self._service.backlog.pending),
            "queue_size": float(self._service.scheduler.queue_rows),
            "processor_share": round(share, 4),
        }


class ReplicaCount:
    """The policy that `serve.yaml` names; Ray calls it several times a second.

    The three targets apply with `by="load"`: the reports of all replicas, added up, are shared among enough replicas.

    Args:
        by: `nodes`: a replica on each machine with a free core. `load`: as many as the load needs; Ray's cluster
            autoscaler then adds and removes machines.
        processor_share: target share of a replica's cores in use.
        pending_requests: target number of pending requests of a replica.
        queue_size: target number of queued images of a replica.
        nodes: returns Ray's list of machines; None for `ray.nodes`.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        by: Literal["nodes", "load"] = "nodes",
        *,
        processor_share: float = 0.7,
        pending_requests: float = 64.0,
        queue_size: float = 128.0,
        nodes: Nodes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if by not in ("nodes", "load"):
            raise ValueError(f"by = {by!r}; expected: nodes, load")
        self._by = by
        self._targets = {
            "processor_share": processor_share,
            "pending_requests": pending_requests,
            "queue_size": queue_size,
        }
        self._nodes = nodes or _ray_nodes
        self._clock = clock
        self._looked_s = -math.inf
        self._machines = 1

    def __call__(self, context: Context) -> tuple[int, dict[str, Any]]:
        """Return the number of replicas, and nothing that Ray should keep for the next call."""
        wanted = self._by_nodes() if self._by == "nodes" else self._by_load(context.aggregated_metrics or {})
        return max(1, wanted), {}

    def _by_nodes(self) -> int:
        now_s = self._clock()
        if now_s >= self._looked_s + LOOK_EVERY_S:
            self._looked_s = now_s
            self._machines = sum(node["Alive"] and node["Resources"].get(CPU, 0) >= 1 for node in self._nodes())
        return self._machines

    def _by_load(self, metrics: Mapping[str, Mapping[Any, float]]) -> int:
        needed = (sum(metrics.get(name, {}).values()) / target for name, target in self._targets.items())
        return math.ceil(max(needed))


def _ray_nodes() -> list[dict[str, Any]]:
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()
    return nodes
