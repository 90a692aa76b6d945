"""The deployment and its configuration, without a cluster."""

from pathlib import Path
from pkgutil import resolve_name
from typing import Any, cast

import pytest

from cluster.protocol import RayApplication
from service.app import open_service
from service.process.lifecycle import Group
from service.settings import Settings
from tests.conftest import MODELS
from tests.fakes import FakeRuntime

pytest.importorskip("ray.serve", reason="needs Ray: the extra 'cluster'")

from cluster import serving
from cluster.deploy import CONFIG, main

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]


def replica_of(models: Path) -> Any:
    service = open_service(Settings(models=models), runtime=FakeRuntime(), group=Group.REPLICAS)
    replica = serving.Replica()
    replica.app = RayApplication(service, None)
    return replica


async def test_health_is_readiness() -> None:
    replica = replica_of(MODELS)
    with pytest.raises(RuntimeError, match="models are being loaded"):
        await replica.check_health()
    replica.app.service.repository.load_all()
    await replica.check_health()
    replica.app.service.stop.request()
    with pytest.raises(RuntimeError, match="the service is stopping"):
        await replica.check_health()


async def test_load_is_reported() -> None:
    load = await replica_of(MODELS).record_autoscaling_stats()
    assert load.keys() == {"pending_requests", "queue_size", "processor_share"}


def test_configuration_is_valid_and_names_what_there_is() -> None:
    import yaml
    from ray.serve.schema import ServeDeploySchema

    config = ServeDeploySchema.model_validate(yaml.safe_load(CONFIG.read_text(encoding="utf-8")))
    application = config.applications[0]
    assert resolve_name(application.import_path) is serving.build
    deployment = cast("Any", application.deployments[0])
    assert (application.name, deployment.name, deployment.max_replicas_per_node) == (serving.NAME, serving.NAME, 1)
    policy = deployment.autoscaling_config["policy"]
    assert resolve_name(policy["policy_function"])(**policy["policy_kwargs"])


def test_deploying_without_a_cluster_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
