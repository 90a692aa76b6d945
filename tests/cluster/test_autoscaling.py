"""The policy for the number of replicas, with machines and reports of a test."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from cluster.autoscaling import Load, ReplicaCount
from service.app import open_service
from service.settings import Settings
from tests.conftest import MODELS
from tests.fakes import FakeRuntime
from tests.waiting import ManualClock


@dataclass
class Reports:
    aggregated_metrics: Mapping[str, Mapping[Any, float]] | None


def node(cores: float, *, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cores} if cores else {}}


def test_a_replica_on_each_machine_that_is_alive_and_has_a_core() -> None:
    machines, clock = [node(8), node(2), node(4, alive=False), node(0)], ManualClock()
    policy = ReplicaCount(nodes=lambda: machines, clock=clock)
    assert policy(Reports(None)) == (2, {})
    machines.append(node(16))
    assert policy(Reports(None)) == (2, {})  # it asks Ray only now and then
    clock.now_s += 2
    assert policy(Reports(None)) == (3, {})
    machines.clear()
    clock.now_s += 2
    assert policy(Reports(None)) == (1, {})


@pytest.mark.parametrize(
    ("reports", "replicas"),
    [
        ({}, 1),
        ({"processor_share": {"a": 0.7, "b": 0.69}}, 2),
        ({"processor_share": {"a": 1.0, "b": 1.0}, "pending_requests": {"a": 3, "b": 1}}, 3),
        ({"processor_share": {"a": 0.1}, "pending_requests": {"a": 200}}, 4),
        ({"queue_size": {"a": 1000, "b": 20}, "pending_requests": {"a": 10}}, 8),
    ],
)
def test_by_load_the_largest_need_counts(reports: dict[str, dict[str, float]], replicas: int) -> None:
    assert ReplicaCount("load")(Reports(reports)) == (replicas, {})


def test_unknown_mode_is_an_error() -> None:
    with pytest.raises(ValueError, match="by = 'cpu'; expected: nodes, load"):
        ReplicaCount("cpu")  # type: ignore[arg-type]


def test_load_of_a_replica() -> None:
    service = open_service(Settings(models=MODELS), runtime=FakeRuntime())
    processor, clock = ManualClock(), ManualClock()
    load = Load(service, 4, processor_s=processor, clock=clock)
    clock.now_s += 10
    processor.now_s += 20
    service.backlog.admission.stay()
    assert load.report() == {"pending_requests": 1, "queue_size": 0, "processor_share": 0.5}
    clock.now_s += 10
    assert load.report()["processor_share"] == 0
    assert load.report()["processor_share"] == 0  # twice at the same time
