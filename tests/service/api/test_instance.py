import re
from pathlib import Path

import pytest

from cifar10_serving import __version__
from cifar10_serving.schemas import InstanceModel, InstanceStatus
from service.settings import Settings
from service.telemetry.reports import merge_models
from tests.conftest import ready_client
from tests.fakes import FakeRuntime
from tests.version_copies import publish_copy, write_rollout


def test_instance_says_what_it_has(one_model: Path) -> None:
    publish_copy(one_model, 2)
    publish_copy(one_model, 3, broken=True)
    write_rollout(one_model, labels={"stable": 1})
    settings = Settings(models=one_model, instance="node-7", poll_interval_s=0)
    with ready_client(settings, FakeRuntime()) as client:
        response = client.get("/instance")
        status = InstanceStatus.model_validate_json(response.content)
        assert response.headers["cache-control"] == "no-store"
    assert (status.instance, status.release, status.ready, status.workers) == ("node-7", __version__, True, 1)
    assert status.store is None
    model = status.models["sequential"]
    assert (model.ready, model.loading, model.failed) == ([1, 2], [], [3])
    assert model.rollout is not None
    assert len(model.rollout) == 12
    assert model.next_rollout is None


def test_rollout_that_is_not_in_force_is_named(one_model: Path) -> None:
    publish_copy(one_model, 2, broken=True)
    write_rollout(one_model, labels={"stable": 2})
    with ready_client(Settings(models=one_model, poll_interval_s=0), FakeRuntime()) as client:
        model = InstanceStatus.model_validate_json(client.get("/instance").content).models["sequential"]
    assert model.next_rollout is not None
    assert model.rollout != model.next_rollout


def test_workers_have_what_all_of_them_have() -> None:
    first = InstanceModel(ready=[1, 2], loading=[], failed=[], rollout="default")
    second = InstanceModel(ready=[1], loading=[2], failed=[3], rollout="0123456789ab", problem="bad")
    merged = merge_models([{"a": first, "b": first}, {"a": second}])
    assert merged["a"] == InstanceModel(ready=[1], loading=[2], failed=[3], rollout=None, problem="bad")
    assert merged["b"] == InstanceModel(ready=[], loading=[1, 2], failed=[], rollout=None)
    assert merge_models([{"a": first}, {"a": first}]) == {"a": first}


def test_instance_names_its_store(one_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="needs the extra s3 (fsspec)")
    settings = Settings(models=f"file://{one_model}", models_mirror_folder=tmp_path / "mirror", poll_interval_s=0)
    with ready_client(settings) as client:
        store = InstanceStatus.model_validate_json(client.get("/instance").content).store
        metrics = client.get("/metrics").text
    assert store is not None
    assert (store.address, store.problem) == (f"file://{one_model}", None)
    assert store.answered_ago_s is not None
    assert re.search(r"^cifar10_store_answered_timestamp_seconds [1-9]", metrics, re.MULTILINE)
