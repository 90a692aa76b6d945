"""Publish a version to a store or to another models folder: visible at once and complete, or not at all.

In an object store, metadata.json is written last, and only if there is none: mirrors see a version once its metadata is
there. A folder gets the version by one rename.
"""

import errno
import shutil
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from cifar10_serving.artifacts.layout import (
    MAX_METADATA_BYTES,
    METADATA_FILE,
    move_into_place,
    read_metadata,
    staging_folder,
    verify,
    version_folder,
)
from cifar10_serving.artifacts.metadata import ModelMetadata
from cifar10_serving.errors import PublishError, StoreError
from cifar10_serving.stores.address import is_address, parse_address
from cifar10_serving.stores.objects import ObjectStore

READ_ONLY = ("https", "http", "hf")


class Outcome(StrEnum):
    """The result of publishing."""

    PUBLISHED = "published"
    THERE = "already published"


def publish_to(target: str, folder: Path, *, store: ObjectStore | None = None) -> tuple[ModelMetadata, Outcome]:
    """Publish a version's folder under its own name and number.

    Args:
        target: address of an object store, or path of a models folder.
        folder: the version, such as models/sequential/1; it is verified first.
        store: the opened store; None for the one of the address.

    Raises:
        ArtifactError: the folder is not a complete version.
        PublishError: there is another version of this number, or the target can't be written to.
        StoreError: the store can't be used.
    """
    folder = folder.resolve()
    metadata = read_metadata(folder)
    verify(folder, metadata)
    if not is_address(target):
        return metadata, _to_folder(Path(target), folder, metadata)
    address = parse_address(target)
    if address.scheme in READ_ONLY:
        remedy = "use `hf upload`, which makes one commit" if address.scheme == "hf" else "publish to where it is made"
        raise PublishError(f"{address.scheme}:// can only be read from here", remedy=remedy)
    if address.scheme == "file":
        return metadata, _to_folder(Path(address.url.removeprefix("file://")), folder, metadata)
    return metadata, _to_store(store or ObjectStore(address), folder, metadata)


def _to_folder(models: Path, folder: Path, metadata: ModelMetadata) -> Outcome:
    target = version_folder(models, metadata.name, metadata.version)
    content = (folder / METADATA_FILE).read_bytes()
    with staging_folder(models, metadata.name) as staging:
        try:
            if target.exists():
                return _same((target / METADATA_FILE).read_bytes, content, str(target))
            for name in (METADATA_FILE, *metadata.files):
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, staging / name)
            move_into_place(staging, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another publisher was faster
                return _same((target / METADATA_FILE).read_bytes, content, str(target))
            raise PublishError(
                f"can't publish {target}: {error.strerror}", expected="a folder that this user may write to"
            ) from None
    return Outcome.PUBLISHED


def _to_store(store: ObjectStore, folder: Path, metadata: ModelMetadata) -> Outcome:
    place = f"{metadata.name}/{metadata.version}"
    content = (folder / METADATA_FILE).read_bytes()

    def stored() -> bytes:
        return store.read(f"{place}/{METADATA_FILE}", MAX_METADATA_BYTES)

    try:
        if store.exists(f"{place}/{METADATA_FILE}"):
            return _same(stored, content, f"{store.address}/{place}")
        for name in metadata.files:
            store.upload(folder / name, f"{place}/{name}")
        store.create(f"{place}/{METADATA_FILE}", content)
    except FileExistsError:  # another publisher was faster
        return _same(stored, content, f"{store.address}/{place}")
    except OSError as error:
        raise StoreError(f"{store.address}/{place} can't be written: {error.strerror or error}") from None
    return Outcome.PUBLISHED


def _same(read: Callable[[], bytes], content: bytes, place: str) -> Outcome:
    """Return that the version is there.

    Raises:
        PublishError: it is another one.
    """
    if read() != content:
        raise PublishError(
            f"{place} is another version",
            expected="a number that is not taken, or the same version",
            remedy="publish it under the next number: published versions never change",
        )
    return Outcome.THERE
