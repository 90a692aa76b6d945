"""What TensorFlow Serving tells of a model: the states of its versions, and its signatures as the artifact has them."""

from typing import Any, Final

import numpy as np
import orjson

from catalog.labels import CLASS_NAMES
from catalog.responses import VersionState, VersionStatus
from catalog.saved_model import SignatureTensor, read_signatures
from runtime.base import Probabilities
from service.api.tensorflow_serving.requests import PredictRequest
from service.core.model_version import ModelVersion
from service.http.errors import Answer

STATES: Final = {
    VersionState.READY: "AVAILABLE",
    VersionState.LOADING: "LOADING",
    VersionState.DRAINING: "UNLOADING",
    VersionState.FAILED: "END",
    VersionState.PUBLISHED: "END",
}
JSON_TYPE: Final = "application/json"


def version_states(versions: list[VersionStatus]) -> dict[str, Any]:
    """The answer to a question for the status of versions."""
    return {
        "model_version_status": [
            {
                "version": str(version.version),
                "state": STATES[version.state],
                "status": {
                    "error_code": "INTERNAL" if version.state is VersionState.FAILED else "OK",
                    "error_message": (version.reason or "") if version.state is VersionState.FAILED else "",
                },
            }
            for version in versions
        ]
    }


def model_metadata(entry: ModelVersion) -> dict[str, Any]:
    """The answer to a question for the metadata of a version.

    Raises:
        ArtifactError: its files are gone, or no longer what they were.
    """
    signatures = {
        name: {
            "inputs": {key: _tensor(tensor) for key, tensor in signature.inputs.items()},
            "outputs": {key: _tensor(tensor) for key, tensor in signature.outputs.items()},
            "method_name": signature.method_name,
            "defaults": {},
        }
        for name, signature in read_signatures(entry.folder).items()
    }
    return {
        "model_spec": {"name": entry.name, "signature_name": "", "version": str(entry.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def prediction_answer(request: PredictRequest, probabilities: Probabilities) -> Answer:
    """Return the answer to `:predict`, and to `:classify`, whose rows are pairs of label and score."""
    rows: Any = np.ascontiguousarray(probabilities)
    if request.form == "result":
        rows = [list(zip(CLASS_NAMES, row, strict=True)) for row in probabilities.tolist()]
    return Answer(orjson.dumps({request.form: rows}, option=orjson.OPT_SERIALIZE_NUMPY))


def _tensor(tensor: SignatureTensor) -> dict[str, Any]:
    return {
        "dtype": tensor.dtype,
        "tensor_shape": {
            "dim": [{"size": str(size), "name": ""} for size in tensor.shape or ()],
            "unknown_rank": tensor.shape is None,
        },
        "name": tensor.name,
    }
