"""The settings and routes that the variables of SageMaker and Vertex AI mean."""

from pathlib import Path

import pytest

from service.cloud import Contract, contract_of
from service.errors import SettingsError
from service.settings import Settings, read_settings

VERTEX = {
    "AIP_HTTP_PORT": "9001",
    "AIP_HEALTH_ROUTE": "/v1/endpoints/1/deployedModels/2",
    "AIP_PREDICT_ROUTE": "/v1/endpoints/1/deployedModels/2:predict",
}


def test_without_a_cloud_there_is_no_contract() -> None:
    assert contract_of("auto", {}) is None
    assert contract_of("off", VERTEX) is None


def test_variables_of_vertex_are_recognized() -> None:
    assert contract_of("auto", VERTEX) == Contract(
        cloud="vertex",
        health_path=VERTEX["AIP_HEALTH_ROUTE"],
        predict_path=VERTEX["AIP_PREDICT_ROUTE"],
        settings={"host": "0.0.0.0", "port": "9001"},  # noqa: S104
    )


def test_storage_uri_of_vertex_is_the_model_repository() -> None:
    contract = contract_of("auto", VERTEX | {"AIP_STORAGE_URI": "gs://bucket/models"})
    assert contract is not None
    assert contract.settings["models"] == "gs://bucket/models"


def test_sagemaker_has_fixed_routes_and_a_port_that_a_pipeline_changes(tmp_path: Path) -> None:
    contract = contract_of("sagemaker", {}, artifacts=tmp_path)
    assert contract is not None
    assert (contract.health_path, contract.predict_path) == ("/ping", "/invocations")
    assert contract.settings == {"host": "0.0.0.0", "port": "8080"}  # noqa: S104
    other = contract_of("sagemaker", {"SAGEMAKER_BIND_TO_PORT": "8123"}, artifacts=tmp_path)
    assert other is not None
    assert other.settings["port"] == "8123"


def test_unpacked_archive_of_sagemaker_is_the_model_repository(tmp_path: Path) -> None:
    (tmp_path / "sequential").mkdir()
    contract = contract_of("sagemaker", {}, artifacts=tmp_path)
    assert contract is not None
    assert contract.settings["models"] == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AIP_HTTP_PORT", "http"),
        ("AIP_HTTP_PORT", "0"),
        ("AIP_HTTP_PORT", "70000"),
        ("AIP_PREDICT_ROUTE", "predict"),
        ("AIP_HEALTH_ROUTE", "/{x}"),
    ],
)
def test_error_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        contract_of("auto", VERTEX | {name: value})


def test_own_variables_and_flags_override_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VERTEX.items():
        monkeypatch.setenv(name, value)
    assert (read_settings().port, read_settings().host) == (9001, "0.0.0.0")  # noqa: S104
    monkeypatch.setenv("CIFAR10_PORT", "9002")
    assert read_settings().port == 9002
    assert read_settings(["--port", "9003"]).port == 9003
    monkeypatch.setenv("CIFAR10_CLOUD", "off")
    assert (read_settings().host, read_settings().contract()) == ("127.0.0.1", None)


def test_argument_of_the_cloud_is_known_to_the_contract() -> None:
    assert Settings(cloud="sagemaker").port == 8080
    assert read_settings(["--cloud", "sagemaker"]).port == 8080
