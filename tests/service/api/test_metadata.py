"""Our metadata, parsed with TensorFlow Serving's own classes, against what TensorFlow reads from the artifact."""

import pytest
from fastapi.testclient import TestClient
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from cifar10_serving.artifacts.layout import version_folder
from tests.conftest import MODELS, PUBLISHED, newest_version


@pytest.mark.parametrize("name", PUBLISHED)
def test_signatures_are_what_tensorflow_reads(client: TestClient, name: str) -> None:
    answer = client.get(f"/v1/models/{name}/metadata").json()
    told = json_format.ParseDict(answer["metadata"]["signature_def"], get_model_metadata_pb2.SignatureDefMap())
    folder = version_folder(MODELS, name, newest_version(name))
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    assert dict(told.signature_def) == dict(saved.meta_graphs[0].signature_def)


def test_status_is_of_the_form_that_tensorflow_serving_has(client: TestClient) -> None:
    answer = client.get("/v1/models/sequential").json()
    status = json_format.ParseDict(answer, get_model_status_pb2.GetModelStatusResponse())
    newest = status.model_version_status[0]
    assert newest.version == newest_version("sequential")
    assert newest.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
