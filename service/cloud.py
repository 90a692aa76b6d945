"""The container contracts of SageMaker and Vertex AI: which settings and routes their variables mean.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from service.errors import SettingsError

Cloud = Literal["auto", "off", "sagemaker", "vertex"]
SAGEMAKER: Final = "sagemaker"
VERTEX: Final = "vertex"
ARTIFACTS: Final = Path("/opt/ml/model")
"""The folder into which SageMaker unpacks a model's archive."""
SAGEMAKER_PORT: Final = "SAGEMAKER_BIND_TO_PORT"
"""SageMaker sets it for a container in a pipeline; otherwise the port is 8080."""
HTTP_PORT: Final = "AIP_HTTP_PORT"
HEALTH_ROUTE: Final = "AIP_HEALTH_ROUTE"
PREDICT_ROUTE: Final = "AIP_PREDICT_ROUTE"
STORAGE_URI: Final = "AIP_STORAGE_URI"
DEFAULT_PORT: Final = "8080"
MAX_PORT: Final = 65_535
ANY_ADDRESS: Final = "0.0.0.0"  # noqa: S104  # both contracts demand it, and the container has its own network


@dataclass(frozen=True, slots=True)
class Contract:
    """A cloud's container contract: its routes, and settings that apply unless the service's own variables set them."""

    cloud: Literal["sagemaker", "vertex"]
    health_path: str
    predict_path: str
    settings: Mapping[str, str] = field(default_factory=dict)


def contract_of(cloud: str, environment: Mapping[str, str], *, artifacts: Path = ARTIFACTS) -> Contract | None:
    """Return the contract; None for none.

    Args:
        cloud: the setting `cloud`; `auto` recognizes Vertex AI by its variables.
        environment: the environment's variables.
        artifacts: the folder that may hold SageMaker's model.

    Raises:
        SettingsError: a port or a route is not valid.
    """
    if cloud == SAGEMAKER:
        models = {"models": str(artifacts)} if _has_entries(artifacts) else {}
        port = _port(environment, SAGEMAKER_PORT)
        return Contract("sagemaker", "/ping", "/invocations", {"host": ANY_ADDRESS, "port": port} | models)
    if cloud == VERTEX or (cloud == "auto" and environment.get(PREDICT_ROUTE)):
        uri = environment.get(STORAGE_URI, "").strip()
        port = _port(environment, HTTP_PORT)
        return Contract(
            "vertex",
            _path(environment, HEALTH_ROUTE, "/health"),
            _path(environment, PREDICT_ROUTE, "/invocations"),
            {"host": ANY_ADDRESS, "port": port} | ({"models": uri} if uri else {}),
        )
    return None


def _has_entries(folder: Path) -> bool:
    try:
        return next(folder.iterdir(), None) is not None
    except OSError:
        return False


def _port(environment: Mapping[str, str], name: str) -> str:
    port = environment.get(name, "").strip() or DEFAULT_PORT
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= MAX_PORT):
        raise SettingsError(f"{name} = {port[:200]!r} is not a port", expected=f"a whole number from 1 to {MAX_PORT:,}")
    return port


def _path(environment: Mapping[str, str], name: str, default: str) -> str:
    path = environment.get(name, "").strip() or default
    if not path.startswith("/") or {"{", "}", "?", "#"} & set(path):
        raise SettingsError(f"{name} = {path[:200]!r} is not a path", expected="a path such as /predict")
    return path
