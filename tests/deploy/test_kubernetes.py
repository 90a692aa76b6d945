"""The manifests in deploy/kubernetes: rendered by kustomize, validated by the schemas of Kubernetes, and consistent.

There is no cluster. kubectl or kustomize renders; the package kubernetes-validate has the schemas.

CIFAR10_TEST_KUBERNETES_MODELS=FOLDER validates PodMonitor and ScaledObject, too, if `npm install
@kubernetes-models/prometheus-operator @kubernetes-models/keda` was run in that folder.

CIFAR10_TEST_KSERVE=FOLDER checks the fields of the InferenceService, if `pip install --no-deps --target FOLDER kserve`
filled that folder.
"""

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings, variable
from tests.conftest import ROOT, SMALL_MODELS, ready_client

KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
WITH_DEPLOYMENT = [name for name in OVERLAYS if name != "kserve"]
COMPONENTS = sorted(path.name for path in (KUBERNETES / "components").iterdir())
VERSIONS = [f"1.{minor}.0" for minor in range(31, 38)]
CUSTOM = ("monitoring.coreos.com/v1", "keda.sh/v1alpha1", "serving.kserve.io/v1beta1")
OF_KSERVE = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}
"""Fields of KServe's predictor; all others are those of a pod."""
NAME = {"app.kubernetes.io/name": "cifar10-serving"}
EXIT_S = 3
"""Time after both phases of a shutdown: docs/serving.md."""
MODELS_FOLDER = "CIFAR10_TEST_KUBERNETES_MODELS"
KSERVE = "CIFAR10_TEST_KSERVE"
Document = dict[str, Any]

pytestmark = [
    pytest.mark.skipif(
        shutil.which("kubectl") is None and shutil.which("kustomize") is None,
        reason="NOT TESTED, nothing renders the manifests: install kubectl or kustomize",
    ),
    pytest.mark.skipif(find_spec("yaml") is None, reason="NOT TESTED, nothing reads YAML: install PyYAML"),
]


@cache
def render(folder: Path) -> str:
    command = ["kustomize", "build"] if shutil.which("kustomize") else ["kubectl", "kustomize"]
    result = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "deprecated" not in result.stderr.lower(), result.stderr
    return result.stdout


def documents(text: str) -> list[Document]:
    import yaml

    return list(yaml.safe_load_all(text))


def overlay(name: str) -> list[Document]:
    return documents(render(KUBERNETES / "overlays" / name))


def one(found: list[Document], kind: str) -> Document:
    (document,) = (document for document in found if document["kind"] == kind)
    return document


RENDERINGS = [*OVERLAYS, *(f"cpu with {name}" for name in COMPONENTS)]
"""Each overlay, and one with each component."""


@pytest.fixture(scope="module")
def renderings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Document]]:
    copy = shutil.copytree(KUBERNETES, tmp_path_factory.mktemp("with-components") / "kubernetes")
    found = {name: overlay(name) for name in OVERLAYS}
    for component in COMPONENTS:
        (copy / f"overlays/{component}").mkdir()
        (copy / f"overlays/{component}/kustomization.yaml").write_text(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
            f"resources: [../cpu]\ncomponents: [../../components/{component}]\n"
        )
        found[f"cpu with {component}"] = documents(render(copy / f"overlays/{component}"))
    return found


@pytest.fixture(params=RENDERINGS)
def rendered(request: pytest.FixtureRequest, renderings: dict[str, list[Document]]) -> list[Document]:
    return renderings[request.param]


def pod_specs(found: list[Document]) -> Iterator[Document]:
    for document in found:
        if document["kind"] == "Deployment":
            yield document["spec"]["template"]["spec"]
        elif document["kind"] == "InferenceService":
            yield document["spec"]["predictor"]


def settings_of(found: list[Document], pod: Document) -> dict[str, str]:
    """The variables of a pod's container."""
    (container,) = pod["containers"]
    given = {entry["name"]: entry["value"] for entry in container.get("env", [])}
    names = {source["configMapRef"]["name"] for source in container.get("envFrom", [])}
    maps = [document for document in found if document["kind"] == "ConfigMap" and document["metadata"]["name"] in names]
    assert len(maps) == len(names)
    return {name: value for entry in maps for name, value in entry["data"].items()} | given


@pytest.mark.skipif(find_spec("kubernetes_validate") is None, reason="NOT TESTED: install kubernetes-validate")
@pytest.mark.parametrize("version", VERSIONS)
def test_documents_are_valid(renderings: dict[str, list[Document]], version: str) -> None:
    import kubernetes_validate

    distinct: dict[str, Document] = {}
    for found in renderings.values():
        # KServe's predictor is a pod with further fields.
        for predictor in (entry["spec"]["predictor"] for entry in found if entry["kind"] == "InferenceService"):
            spec = {name: value for name, value in predictor.items() if name not in OF_KSERVE}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": spec}
            distinct[json.dumps(pod)] = pod
        distinct |= {json.dumps(entry): entry for entry in found if entry["apiVersion"] not in CUSTOM}
    assert {entry["kind"] for entry in distinct.values()} >= {"Deployment", "Pod", "NetworkPolicy", "ServiceAccount"}
    for entry in distinct.values():
        kubernetes_validate.validate(entry, version, strict=True)


@pytest.mark.skipif(find_spec("kubernetes_validate") is None, reason="NOT TESTED: install kubernetes-validate")
def test_validation_finds_a_misspelt_field() -> None:
    import kubernetes_validate

    deployment = json.loads(json.dumps(one(overlay("cpu"), "Deployment")))
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


@pytest.mark.skipif(
    MODELS_FOLDER not in os.environ or shutil.which("node") is None,
    reason=f"NOT TESTED: set {MODELS_FOLDER} to a folder with npm's @kubernetes-models, and install node",
)
def test_custom_resources_are_valid() -> None:
    custom = [
        document
        for name in ("keda", "prometheus-adapter")
        for document in overlay(name)
        if document["apiVersion"] in CUSTOM
    ]
    assert {document["kind"] for document in custom} == {"PodMonitor", "ScaledObject"}
    assert validate_custom(custom) == ""
    broken = json.loads(json.dumps(one(custom, "ScaledObject")))
    broken["spec"]["minReplicaCount"] = "two"
    assert "minReplicaCount" in validate_custom([broken])


@pytest.mark.skipif(KSERVE not in os.environ, reason=f"NOT TESTED: set {KSERVE} to a folder with the package kserve")
def test_fields_of_kserve_exist() -> None:
    service = one(overlay("kserve"), "InferenceService")
    assert service["spec"].keys() <= kserve_fields("v1beta1_inference_service_spec").keys()
    fields = kserve_fields("v1beta1_predictor_spec")
    assert service["spec"]["predictor"].keys() <= fields.keys()
    assert {name: fields[name] for name in OF_KSERVE} == {
        "minReplicas": "int",
        "maxReplicas": "int",
        "scaleMetric": "str",
        "scaleTarget": "int",
    }


def kserve_fields(module: str) -> dict[str, str]:
    """The fields of a model of KServe's SDK with their types; the SDK itself imports much."""
    tree = ast.parse(Path(os.environ[KSERVE], f"kserve/models/{module}.py").read_text())
    found = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in ("attribute_map", "openapi_types")
    }
    return {field: found["openapi_types"][name] for name, field in found["attribute_map"].items()}


def validate_custom(found: list[Document]) -> str:
    result = subprocess.run(
        ["node", str(ROOT / "tests/deploy/validate.mjs"), os.environ[MODELS_FOLDER]],
        input=json.dumps(found),
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout


def test_settings_exist_and_are_legal(rendered: list[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    known = {variable(name) for name in Settings.model_fields}
    for pod in pod_specs(rendered):
        given = {name: value for name, value in settings_of(rendered, pod).items() if name.startswith("CIFAR10_")}
        assert given
        assert given.keys() <= known
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            Settings()


def test_ports_and_probes_are_the_service_s(rendered: list[Document], client: Any) -> None:
    for pod in pod_specs(rendered):
        (container,) = pod["containers"]
        given = settings_of(rendered, pod)
        ports = {port.get("name"): port["containerPort"] for port in container["ports"]}
        http_port = int(given.get("CIFAR10_PORT", "8000"))
        assert ports.get("grpc", 0) == int(given.get("CIFAR10_GRPC_PORT", "0"))
        for probe, path in (("startupProbe", "/livez"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
            asked = container[probe]["httpGet"]
            assert asked["path"] == path
            assert ports.get(asked["port"], asked["port"]) == http_port
            assert client.get(path).status_code == 200


def test_pods_are_given_time_to_stop(rendered: list[Document]) -> None:
    for pod in pod_specs(rendered):
        (container,) = pod["containers"]
        given = settings_of(rendered, pod)
        drain_s = given.get(
            "CIFAR10_GRACEFUL_SHUTDOWN_TIMEOUT_S", Settings.model_fields["graceful_shutdown_timeout_s"].default
        )
        needed_s = (
            container["lifecycle"]["preStop"]["sleep"]["seconds"] + int(given["CIFAR10_LAME_DUCK_S"]) + int(drain_s)
        )
        assert pod["terminationGracePeriodSeconds"] > needed_s + EXIT_S
        probe = container["readinessProbe"]
        assert int(given["CIFAR10_LAME_DUCK_S"]) > probe["periodSeconds"] * probe["failureThreshold"]


def test_pods_are_locked_down(rendered: list[Document]) -> None:
    uid = int(re.findall(r"--uid (\d+)", (ROOT / "Dockerfile").read_text())[0])
    for pod in pod_specs(rendered):
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == uid
        assert not pod["automountServiceAccountToken"]
        assert not pod["enableServiceLinks"]
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"/tmp", "/var/cache/cifar10-serving"} <= {mount["mountPath"] for mount in container["volumeMounts"]}  # noqa: S108
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        resources = container["resources"]
        assert resources["limits"] == resources["requests"]
        assert float(resources["limits"]["cpu"]).is_integer()


@pytest.mark.parametrize("name", WITH_DEPLOYMENT)
def test_every_selector_selects_the_pods_and_no_others(name: str) -> None:
    found = overlay(name)
    template = one(found, "Deployment")["spec"]["template"]
    assert template["metadata"]["labels"] == NAME
    assert one(found, "PodDisruptionBudget")["spec"]["selector"] == {"matchLabels": NAME}
    assert one(found, "NetworkPolicy")["spec"]["podSelector"] == {"matchLabels": NAME}
    services = [document for document in found if document["kind"] == "Service"]
    assert [service["spec"]["selector"] for service in services] == [NAME, NAME]
    assert [service["spec"].get("clusterIP") for service in services] == [None, "None"]
    container_ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for service in services for port in service["spec"]["ports"]} == container_ports


@pytest.mark.parametrize("name", WITH_DEPLOYMENT)
def test_one_thing_sets_the_number_of_replicas(name: str) -> None:
    found = overlay(name)
    kinds = [document["kind"] for document in found]
    scalers = kinds.count("HorizontalPodAutoscaler") + kinds.count("ScaledObject")
    assert scalers == ("replicas" not in one(found, "Deployment")["spec"])


def test_metrics_that_manifests_name_exist() -> None:
    text = "".join(render(KUBERNETES / "overlays" / name) for name in OVERLAYS)
    named = set(re.findall(r"\bcifar10_[a-z_]+", text))
    derived = set(re.findall(r"\bas: (cifar10_[a-z_]+)", text))
    assert derived == {"cifar10_queue_depth"}
    with ready_client(Settings(models=SMALL_MODELS)) as client:
        metrics = client.get("/metrics").text
    exposed = set(re.findall(r"^(cifar10_[a-z_]+)", metrics, re.MULTILINE))
    assert named - derived == {"cifar10_queue_rows", "cifar10_backlog_requests"}
    assert named - derived <= exposed


def test_processor_time_comes_first_and_queue_depth_second() -> None:
    metrics = one(overlay("prometheus-adapter"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert [metric["type"] for metric in metrics] == ["Resource", "Pods"]
    depth = metrics[1]["pods"]
    assert depth["metric"]["name"] == "cifar10_queue_depth"
    triggers = one(overlay("keda"), "ScaledObject")["spec"]["triggers"]
    assert [trigger["type"] for trigger in triggers] == ["cpu", "prometheus"]
    batch = str(Settings.model_fields["max_batch_size"].default)
    assert depth["target"]["averageValue"] == triggers[1]["metadata"]["threshold"] == batch


def test_pod_monitor_scrapes_a_port_of_the_pods() -> None:
    found = overlay("keda")
    monitor = one(found, "PodMonitor")["spec"]
    assert monitor["selector"] == {"matchLabels": NAME}
    (endpoint,) = monitor["podMetricsEndpoints"]
    ports = one(found, "Deployment")["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert endpoint["port"] in {port["name"] for port in ports}
    label = "app_kubernetes_io_name"  # as Prometheus spells it
    assert monitor["podTargetLabels"] == ["app.kubernetes.io/name"]
    query = one(found, "ScaledObject")["spec"]["triggers"][1]["metadata"]["query"]
    assert query.count(f'{label}="cifar10-serving"') == query.count("sum(") == 2
