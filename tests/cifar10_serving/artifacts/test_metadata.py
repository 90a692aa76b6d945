from typing import Any

import pytest
from pydantic import ValidationError

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.artifacts.metadata import ModelMetadata
from tests.conftest import MODELS, every_published_version
from training.cifar10 import CLASS_NAMES


@pytest.mark.parametrize(("name", "version"), every_published_version())
def test_stored_evaluations_agree_with_themselves(name: str, version: int) -> None:
    metadata = read_metadata(version_folder(MODELS, name, version))
    assert metadata.labels == list(CLASS_NAMES)
    assert {(entry.runtime, entry.precision, entry.split) for entry in metadata.evaluations} >= {
        ("tensorflow", "float32", "test"),
        ("openvino", "float32", "test"),
    }
    for entry in metadata.evaluations:
        matrix = entry.confusion_matrix
        diagonal = sum(matrix[index][index] for index in range(10))
        assert entry.n == 10_000 == sum(map(sum, matrix))
        assert entry.correct == diagonal
        assert entry.accuracy == diagonal / entry.n
        for index, result in enumerate(entry.per_class):
            assert result.n == sum(matrix[index])
            assert result.recall == pytest.approx(matrix[index][index] / result.n)


def test_evaluation_prefers_the_runtime_asked_for_and_never_another_precision() -> None:
    metadata = read_metadata(version_folder(MODELS, "sequential", 1))
    for runtime in ("openvino", "tensorflow"):
        entry = metadata.evaluation("test", "float32", runtime)
        assert entry is not None
        assert entry.runtime == runtime
    without_bfloat16 = metadata.model_copy(
        update={"evaluations": [entry for entry in metadata.evaluations if entry.precision == "float32"]}
    )
    assert without_bfloat16.evaluation("test", "bfloat16", "openvino") is None


def test_unknown_fields_are_rejected() -> None:
    metadata = read_metadata(version_folder(MODELS, "sequential", 1))
    document = metadata.model_dump(mode="json") | {"acuracy": 1}
    with pytest.raises(ValidationError, match="acuracy"):
        ModelMetadata.model_validate(document)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("name",), ""),
        (("name",), "Sequential"),
        (("name",), "../sequential"),
        (("name",), ".hidden"),
        (("name",), "x" * 65),
        (("title",), "x" * 201),
        (("signatures",), []),
        (("signatures", 0, "inputs"), []),
        (("signatures", 0, "inputs", 0, "name"), "pixels"),
        (("signatures", 0, "inputs", 0, "dtype"), "complex64"),
        (("signatures", 0, "inputs", 0, "dtype"), "float32"),
        (("signatures", 0, "inputs", 0, "shape"), [-1, 32, 32]),
        (("signatures", 0, "inputs", 0, "shape"), [1, 32, 32, 3]),
        (("signatures", 0, "inputs", 0, "shape"), [-1, 32, 32, 1]),
        (("signatures", 0, "inputs", 0, "shape"), [-1, 7, 32, 3]),
        (("signatures", 0, "inputs", 0, "shape"), [-1, 32, 1025, 3]),
        (("signatures", 0, "inputs", 0, "shape"), [-1, -1, -1, 3]),
        (("signatures", 0, "outputs", 0, "name"), "logits"),
        (("signatures", 0, "outputs", 0, "dtype"), "uint8"),
        (("signatures", 0, "outputs", 0, "shape"), [-1, 11]),
        (("labels",), ["cat"]),
        (("labels",), ["cat"] * 10),
        (("labels",), [f"class {number}" for number in range(10_001)]),
        (("labels", 3), ""),
        (("labels", 3), " cat"),
        (("labels", 3), "cat\x1b[2J"),
        (("labels", 3), "x" * 201),
        (("evaluations", 0, "per_class", 3, "label"), "dog"),
        (("evaluations", 0, "per_class"), []),
        (("evaluations", 0, "confusion_matrix"), [[1], []]),
        (("evaluations", 0, "confusion_matrix"), [[0] * 11] * 10),
    ],
)
def test_what_a_version_could_not_be_described_by_is_rejected(place: tuple[str | int, ...], value: object) -> None:
    document = read_metadata(version_folder(MODELS, "sequential", 1)).model_dump(mode="json")
    *parents, last = place
    inner: Any = document
    for part in parents:
        inner = inner[part]
    inner[last] = value
    with pytest.raises(ValidationError, match=str(place[0])):
        ModelMetadata.model_validate(document)


@pytest.mark.parametrize("name", ["x", "my.own-cnn_2", "0", "x" * 64])
def test_any_such_name_is_taken(name: str) -> None:
    document = read_metadata(version_folder(MODELS, "sequential", 1)).model_dump(mode="json")
    assert ModelMetadata.model_validate(document | {"name": name}).name == name


@pytest.mark.parametrize(
    "labels", [["no", "yes"], ["Löwe", "寺", "🐈"], [f"class {number}" for number in range(10_000)]]
)
@pytest.mark.parametrize(("height", "width"), [(8, 1024), (224, 224)])
def test_classes_and_input_size_are_what_the_document_says(labels: list[str], height: int, width: int) -> None:
    document = read_metadata(version_folder(MODELS, "sequential", 1)).model_dump(mode="json")
    document |= {"labels": labels, "evaluations": []}
    signature = document["signatures"][0]
    signature["inputs"][0]["shape"] = [-1, height, width, 3]
    signature["outputs"][0]["shape"] = [-1, len(labels)]
    metadata = ModelMetadata.model_validate(document)
    assert metadata.class_count == len(labels)
    assert metadata.input_shape == (height, width, 3)
    assert metadata.serving_signature.name == "serving_default"
