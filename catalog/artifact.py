"""The folder `models/<name>/<version>/`: reading, verifying and publishing one version.

A version appears by one rename of a folder that is complete, checked and on disk, and never changes
afterwards: a reader sees a whole version or none, whatever was killed. What the files mean to a runtime is
`runtime`'s part; what is written into them is `training.export`'s.
"""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from catalog.errors import ArtifactCorruptError, ArtifactMissingError, MetadataError, PublishError
from catalog.metadata import FileRecord, ModelMetadata

METADATA_FILE: Final = "metadata.json"
SAVED_MODEL_FILE: Final = "saved_model.pb"
WARM_UP_FILE: Final = "assets.extra/tf_serving_warmup_requests"
GOLDEN_FILE: Final = "golden.npz"
PLOTS_FOLDER: Final = "plots"
STAGING_PREFIX: Final = ".staging-"


def version_folder(models: Path, name: str, version: int) -> Path:
    """Where a version is, or would be."""
    return models / name / str(version)


def published_versions(models: Path, name: str) -> list[int]:
    """The version numbers below `models/<name>/`, ascending; staging folders and other names are passed over."""
    try:
        entries = list((models / name).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(entry.name) for entry in entries if is_version_name(entry.name) and entry.is_dir())


def is_version_name(name: str) -> bool:
    """Whether a folder of this name is a version's."""
    return name.isascii() and name.isdigit() and not name.startswith("0")


def read_metadata(folder: Path) -> ModelMetadata:
    """The metadata of a version's folder.

    Raises:
        ArtifactMissingError: there is no such folder or no metadata.json in it.
        MetadataError: metadata.json says something else than the schema, or names another version.
    """
    file = folder / METADATA_FILE
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactMissingError(
            f"{file} is not there", expected="a version that training published", remedy="publish the version again"
        ) from None
    try:
        metadata = ModelMetadata.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise MetadataError(
            f"{file}: {where}: {first['msg']} ({error.error_count()} problems in all)",
            expected="what catalog.metadata.ModelMetadata describes",
            remedy="publish the version again, or serve it with the release of this project that wrote it",
        ) from None
    place = folder.absolute()
    if place.name.isdigit() and (metadata.name, str(metadata.version)) != (place.parent.name, place.name):
        raise MetadataError(
            f"{file} describes {metadata.name} version {metadata.version}",
            expected=f"{place.parent.name} version {place.name}, as the folder is called",
            remedy="move the version back to where it was published",
        )
    return metadata


def verify(folder: Path, metadata: ModelMetadata) -> None:
    """Compare every file that the metadata lists with its size and SHA-256; the model and golden.npz must be listed.

    Raises:
        ArtifactMissingError: a listed file is not there.
        ArtifactCorruptError: a file's content is not what was published.
        MetadataError: there is no checksum of a file that matters.
    """
    unlisted = {SAVED_MODEL_FILE, metadata.golden.file} - set(metadata.files)
    if unlisted:
        raise MetadataError(
            f"{folder / METADATA_FILE} has no checksum of {', '.join(sorted(unlisted))}",
            expected="every file of the version under `files`",
            remedy="restore the version from where it was published",
        )
    for name, record in metadata.files.items():
        file = folder / name
        try:
            found = file_record(file)
        except (FileNotFoundError, NotADirectoryError):
            raise ArtifactMissingError(
                f"{file} is not there", expected="every file that metadata.json lists", remedy="restore the version"
            ) from None
        if found != record:
            raise ArtifactCorruptError(
                f"{file} is not what was published: {found.size_bytes:,} bytes with SHA-256 {found.sha256[:12]}…",
                expected=f"{record.size_bytes:,} bytes with SHA-256 {record.sha256[:12]}…",
                remedy="restore the version from where it was published",
            )


def file_record(file: Path) -> FileRecord:
    """Size and SHA-256 of a file as it is now."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileRecord(sha256=digest, size_bytes=file.stat().st_size)


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Every file below a folder but metadata.json, by its path relative to the folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / METADATA_FILE)
    return {file.relative_to(folder).as_posix(): file_record(file) for file in files}


@contextmanager
def staging_folder(models: Path, name: str) -> Iterator[Path]:
    """A folder beside the versions of `name` to write a new one into; gone afterwards unless published.

    Raises:
        PublishError: the folder can't be made (read-only, no space, not a folder).
    """
    parent = models / name
    try:
        parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=parent))
    except OSError as error:
        raise PublishError(
            f"can't write to {parent}: {error.strerror}",
            expected="a folder that this user may write to",
            remedy="give another folder with --models",
        ) from None
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        with suppress(OSError):  # there are versions, as there should be
            parent.rmdir()


def publish(staging: Path, metadata: ModelMetadata, models: Path) -> ModelMetadata:
    """Turn a staging folder into the next version, all at once.

    The metadata's `version` and `files` are set here, from the versions that exist and the files that are in
    the folder; the result is the metadata as published. Two publishers at once get two numbers.

    Raises:
        PublishError: the folder could not be written or renamed; the published versions are as before.
    """
    files = file_records(staging)
    while True:
        version = max(published_versions(models, metadata.name), default=0) + 1
        complete = metadata.model_copy(update={"version": version, "files": files})
        target = version_folder(models, metadata.name, version)
        try:
            (staging / METADATA_FILE).write_text(complete.model_dump_json(indent=1) + "\n", encoding="utf-8")
            verify(staging, read_metadata(staging))
            _make_readable_by_all(staging)
            _sync(staging)
            staging.rename(target)
            _sync_one(target.parent)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                continue  # another publisher took this number between the listing and the rename
            raise PublishError(
                f"can't publish {target}: {error.strerror}",
                expected="a folder with room that this user may write to",
                remedy="make room, or give another folder with --models",
            ) from None
        return complete


def _make_readable_by_all(folder: Path) -> None:
    # mkdtemp makes the folder for its owner only, and a umask may do the same; who serves it is often another user.
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def _sync(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _sync_one(path)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
