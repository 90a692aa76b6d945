"""The folder `models/<name>/<version>/`: read, verify and publish a version.

A version appears by one rename of a folder that is complete, verified and on disk, and never changes afterwards. So a
reader sees a complete version or none, even if a process was killed. `runtimes` knows what the files mean to a runtime;
`training.export` writes them.
"""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.confusions import without_large_matrices, write_confusions
from cifar10_serving.artifacts.documents import DocumentError, parse_document, printable
from cifar10_serving.artifacts.files import read_regular, regular_files, sha256_regular
from cifar10_serving.artifacts.metadata import (
    MAX_MATRIX_CLASSES,
    MAX_VERSION_DIGITS,
    SAVED_MODEL_FILE,
    FileRecord,
    ModelMetadata,
)
from cifar10_serving.errors import (
    ArtifactCorruptError,
    ArtifactError,
    ArtifactMissingError,
    MetadataError,
    PublishError,
)

METADATA_FILE: Final = "metadata.json"
WARM_UP_FILE: Final = "assets.extra/tf_serving_warmup_requests"
GOLDEN_FILE: Final = "golden.npz"
PLOTS_FOLDER: Final = "plots"
STAGING_PREFIX: Final = ".staging-"
MAX_METADATA_BYTES: Final = 8 * 2**20
"""1,000 classes take 0.5 MiB, 10,000 take 5 MiB and half a second to parse."""
MAX_PLOT_BYTES: Final = 2 * 2**20
MAX_VERSION_BYTES: Final = 2**32
"""Maximum size of all files of a version together."""
READ_AT_LOADING: Final = ("variables/", "assets/", "openvino/")
"""Folders that a runtime may open when it loads; every file in them must have a checksum."""


def version_folder(models: Path, name: str, version: int) -> Path:
    """Return the folder of a version, whether it exists or not."""
    return models / name / str(version)


def published_versions(models: Path, name: str) -> list[int]:
    """Return the version numbers in `models/<name>/`, ascending; ignore staging folders and other names."""
    try:
        entries = list((models / name).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(entry.name) for entry in entries if is_version_name(entry.name) and entry.is_dir())


def published_models(models: Path) -> list[str]:
    """Return the names of the models that have a version, in the order in which they were first published.

    Models whose oldest version can't be read come last.
    """
    versions = {name: published_versions(models, name) for name in sorted(entry.name for entry in models.iterdir())}

    def first_published(name: str) -> datetime:
        try:
            return read_metadata(version_folder(models, name, versions[name][0])).published_at.replace(tzinfo=None)
        except ArtifactError:
            return datetime.max  # noqa: DTZ901  # compared alone

    return sorted((name for name, found in versions.items() if found), key=first_published)


def is_version_name(name: str) -> bool:
    """Return whether this is the name of a version's folder."""
    return name.isascii() and name.isdigit() and not name.startswith("0") and len(name) <= MAX_VERSION_DIGITS


def read_metadata(folder: Path) -> ModelMetadata:
    """Return the metadata of a version's folder.

    Raises:
        ArtifactMissingError: the folder or its metadata.json does not exist.
        MetadataError: metadata.json does not match the schema, or names another version.
    """
    file = folder / METADATA_FILE
    try:
        content = read_regular(folder, METADATA_FILE, max_bytes=MAX_METADATA_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactMissingError(
            f"{file} is not there", expected="a version that training published", remedy="publish the version again"
        ) from None
    except OSError as error:
        raise MetadataError(
            f"{file} can't be read: {error.strerror}", remedy="restore the version from where it was published"
        ) from None
    try:
        metadata = parse_document(content, ModelMetadata)
    except DocumentError as error:
        raise MetadataError(
            f"{file}: {error}",
            expected="the fields of cifar10_serving.artifacts.metadata.ModelMetadata",
            remedy="publish the version again, or serve it with the release of this project that wrote it",
        ) from None
    place = folder.absolute()
    if place.name.isdigit() and (metadata.name, str(metadata.version)) != (place.parent.name, place.name):
        raise MetadataError(
            f"{file} describes {metadata.name} version {metadata.version}",
            expected=f"{place.parent.name} version {place.name}, like the folder",
            remedy="move the version back to where it was published",
        )
    return metadata


def verify(folder: Path, metadata: ModelMetadata) -> None:
    """Compare every listed file with its size and SHA-256; files that are read when loading must be listed.

    The folder may contain only regular files, folders, and links within the folder.

    Raises:
        ArtifactMissingError: a listed file does not exist.
        ArtifactCorruptError: a file's content differs from what was published, or something is not a regular file.
        MetadataError: a relevant file has no checksum.
    """
    unlisted = {*metadata.network_files, metadata.golden.file} - set(metadata.files)
    if unlisted:
        raise MetadataError(
            f"{folder / METADATA_FILE} has no checksum of {', '.join(sorted(unlisted))}",
            expected="every file of the version under `files`",
            remedy="restore the version from where it was published",
        )
    if sum(record.size_bytes for record in metadata.files.values()) > MAX_VERSION_BYTES:
        raise MetadataError(
            f"{folder / METADATA_FILE} lists more than {MAX_VERSION_BYTES:,} bytes", expected="a smaller version"
        )
    for name, record in metadata.files.items():
        _check_content(folder, name, record)
    try:
        unknown = {
            name for name in regular_files(folder) if name.startswith(READ_AT_LOADING) or name == SAVED_MODEL_FILE
        } - set(metadata.files)
    except OSError as error:
        raise ArtifactCorruptError(
            f"{error.filename or folder} {error.strerror}",
            expected="regular files inside the version's folder",
            remedy="restore the version from where it was published",
        ) from None
    if unknown:
        raise MetadataError(
            f"{folder / METADATA_FILE} has no checksum of {printable(', '.join(sorted(unknown)))}",
            expected="every file of the version under `files`",
            remedy="restore the version from where it was published",
        )


def read_plot(folder: Path, metadata: ModelMetadata, plot: str) -> bytes | None:
    """Return a plot of a version as SVG, or None.

    Raises:
        ArtifactError: it is too large, can't be read, or differs from what was published.
    """
    name = metadata.plots.get(plot)
    if name is None or name not in metadata.files:
        return None
    try:
        content = read_regular(folder, name, max_bytes=MAX_PLOT_BYTES)
    except OSError as error:
        raise ArtifactCorruptError(
            f"{folder / name} can't be read: {error.strerror}", remedy="restore the version"
        ) from None
    if hashlib.sha256(content).hexdigest() != metadata.files[name].sha256:
        raise ArtifactCorruptError(f"{folder / name} is not what was published", remedy="restore the version")
    return content


def _check_content(folder: Path, name: str, record: FileRecord) -> None:
    file = folder / name
    try:
        found = sha256_regular(folder, name, size_bytes=record.size_bytes)
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactMissingError(
            f"{file} is not there", expected="every file that metadata.json lists", remedy="restore the version"
        ) from None
    except OSError as error:
        raise ArtifactCorruptError(
            f"{file} can't be read: {error.strerror}",
            expected="a regular file inside the version's folder",
            remedy="restore the version from where it was published",
        ) from None
    if found != record.sha256:
        content = "a different size" if found is None else f"SHA-256 {found[:12]}…"
        raise ArtifactCorruptError(
            f"{file} is not what was published: {content}",
            expected=f"{record.size_bytes:,} bytes with SHA-256 {record.sha256[:12]}…",
            remedy="restore the version from where it was published",
        )


def file_record(file: Path) -> FileRecord:
    """Return the current size and SHA-256 of a file."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileRecord(sha256=digest, size_bytes=file.stat().st_size)


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Return the records of all files in a folder except metadata.json, by relative path."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / METADATA_FILE)
    return {file.relative_to(folder).as_posix(): file_record(file) for file in files}


@contextmanager
def staging_folder(models: Path, name: str) -> Iterator[Path]:
    """Yield a staging folder next to the versions of `name`; it is deleted afterwards unless published.

    Raises:
        PublishError: the folder can't be created (read-only, no space, not a folder).
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
        with suppress(OSError):  # not empty: there are versions
            parent.rmdir()


def publish(staging: Path, metadata: ModelMetadata, models: Path) -> ModelMetadata:
    """Turn a staging folder into the next version, atomically.

    This sets the metadata's `version` and `files` from the existing versions and the files in the folder, and returns
    the published metadata. Two concurrent publishers get two numbers.

    Raises:
        PublishError: the folder could not be written or renamed; the published versions are unchanged.
    """
    try:
        write_confusions(metadata, staging)
    except OSError as error:
        raise _unpublished(staging, error) from None
    files = file_records(staging)
    while True:
        version = max(published_versions(models, metadata.name), default=0) + 1
        complete = metadata.model_copy(update={"version": version, "files": files})
        target = version_folder(models, metadata.name, version)
        try:
            complete = without_large_matrices(complete)
            (staging / METADATA_FILE).write_text(f"{metadata_document(complete)}\n", encoding="utf-8")
            verify(staging, read_metadata(staging))
            move_into_place(staging, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                continue  # another publisher took this number between the listing and the rename
            raise _unpublished(target, error) from None
        return complete


def move_into_place(staging: Path, target: Path) -> None:
    """Make a complete folder visible under its final name, by one rename, once all of it is on disk.

    Raises:
        OSError: it could not be renamed; the errno is ENOTEMPTY or EEXIST if the target exists.
    """
    _make_readable_by_all(staging)
    _sync(staging)
    staging.rename(target)
    _sync_one(target.parent)


def metadata_document(metadata: ModelMetadata) -> str:
    """Return the content of metadata.json; see `cifar10_serving.artifacts.confusions`."""
    indent = 1 if metadata.class_count <= MAX_MATRIX_CLASSES else None
    return without_large_matrices(metadata).model_dump_json(indent=indent)


def _unpublished(target: Path, error: OSError) -> PublishError:
    return PublishError(
        f"can't publish {target}: {error.strerror}",
        expected="a folder with free space that this user may write to",
        remedy="free some space, or give another folder with --models",
    )


def _make_readable_by_all(folder: Path) -> None:
    # mkdtemp creates the folder for its owner only, and so may a umask; the service often runs as another user.
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
