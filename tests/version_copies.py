"""Copies of published versions, added to a models folder and removed as an operator does it: by rename."""

import json
import os
import shutil
from pathlib import Path

from cifar10_serving.artifacts.layout import STAGING_PREFIX, file_records, read_metadata, version_folder
from tests.conftest import MODELS


def publish_copy(
    models: Path, version: int, *, name: str = "sequential", source: int = 1, broken: bool = False
) -> Path:
    """Publish a copy of a version of the clone under this number, with valid metadata, atomically.

    Args:
        models: the models folder.
        source: number of the version to copy.
        broken: whether to flip a bit of the model.
    """
    staging = models / name / f"{STAGING_PREFIX}{version}"
    shutil.copytree(version_folder(MODELS, name, source), staging)
    metadata = read_metadata(version_folder(MODELS, name, source)).model_copy(update={"version": version})
    (staging / "metadata.json").write_text(metadata.model_dump_json())
    if broken:
        flip_a_bit(staging / "saved_model.pb")
    return staging.rename(version_folder(models, name, version))


def publish_relabelled(models: Path, name: str, labels: list[str], *, accuracy: float | None = 0.99) -> Path:
    """Publish a copy of sequential version 1 as version 1 of another model, with these ten labels.

    Args:
        accuracy: its stored test accuracy; None for a version that was not measured.
    """
    folder = version_folder(models, name, 1)
    shutil.copytree(version_folder(MODELS, "sequential", 1), folder)
    document = read_metadata(version_folder(MODELS, "sequential", 1)).model_dump(mode="json")
    document |= {"name": name, "title": name, "labels": labels}
    for evaluation in document["evaluations"]:
        evaluation["accuracy"] = accuracy
        for label, result in zip(labels, evaluation["per_class"], strict=True):
            result["label"] = label
    if accuracy is None:
        document["evaluations"] = []
    (folder / "metadata.json").write_text(json.dumps(document))
    return folder


def withdraw(models: Path, version: int, *, name: str = "sequential") -> None:
    """Withdraw a version, atomically."""
    hidden = models / name / f".withdrawn-{version}"
    shutil.rmtree(version_folder(models, name, version).rename(hidden))


def write_rollout(models: Path, name: str = "sequential", /, **rollout: object) -> Path:
    """Write a model's serving.json, atomically."""
    file = models / name / "serving.json"
    staging = file.with_name(".serving.json")
    staging.write_text(json.dumps(rollout))
    return staging.replace(file)


def flip_a_bit(file: Path) -> None:
    """Flip a bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)


def rewrite_checksums(folder: Path) -> None:
    """Update the checksums, like somebody who changes a published version and hides it."""
    metadata = read_metadata(folder).model_copy(update={"files": file_records(folder)})
    (folder / "metadata.json").write_text(metadata.model_dump_json())


def resident_bytes(process_id: int) -> int:
    """Return the resident memory of a process (Linux)."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
