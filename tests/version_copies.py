"""Copies of the published versions, brought into a models folder and out of it as an operator does: by rename."""

import json
import os
import shutil
from pathlib import Path

from cifar10_serving.artifacts.layout import STAGING_PREFIX, file_records, read_metadata, version_folder
from tests.conftest import MODELS


def publish_copy(
    models: Path, version: int, *, name: str = "sequential", source: int = 1, broken: bool = False
) -> Path:
    """Publish a copy of a version of the clone under this number, its metadata right for it; all at once.

    Args:
        models: where to.
        source: the number that is copied.
        broken: with a bit of the model flipped.
    """
    staging = models / name / f"{STAGING_PREFIX}{version}"
    shutil.copytree(version_folder(MODELS, name, source), staging)
    metadata = read_metadata(version_folder(MODELS, name, source)).model_copy(update={"version": version})
    (staging / "metadata.json").write_text(metadata.model_dump_json())
    if broken:
        flip_a_bit(staging / "saved_model.pb")
    return staging.rename(version_folder(models, name, version))


def withdraw(models: Path, version: int, *, name: str = "sequential") -> None:
    """Take a version away, all at once."""
    hidden = models / name / f".withdrawn-{version}"
    shutil.rmtree(version_folder(models, name, version).rename(hidden))


def write_rollout(models: Path, name: str = "sequential", /, **rollout: object) -> Path:
    """Write a model's serving.json, all at once."""
    file = models / name / "serving.json"
    staging = file.with_name(".serving.json")
    staging.write_text(json.dumps(rollout))
    return staging.replace(file)


def flip_a_bit(file: Path) -> None:
    """Damage a file in its middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)


def rewrite_checksums(folder: Path) -> None:
    """As somebody does who changes a published version and hides it."""
    metadata = read_metadata(folder).model_copy(update={"files": file_records(folder)})
    (folder / "metadata.json").write_text(metadata.model_dump_json())


def resident_bytes(process_id: int) -> int:
    """The memory that a process holds (Linux)."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
