"""A local mirror of a store of models: `s3://…` and others, or an archive.

Each look is one listing. What is new is downloaded to a hidden folder, verified by the hashes in its metadata, and
renamed into place, so that `service.registry.models_folder` sees complete versions only. Files that were downloaded
before an interruption are kept. One look handles one model, then the caller may load what is there.

What serves goes only if the store says so: a version is removed when two listings in a row lack it and the store, asked
for it by name, has none either. A store that can't be reached or lists nothing removes nothing.
"""

import hashlib
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from cifar10_serving.artifacts.documents import DocumentError, parse_document, printable
from cifar10_serving.artifacts.files import replaced_file
from cifar10_serving.artifacts.layout import (
    METADATA_FILE,
    is_version_name,
    move_into_place,
    published_versions,
    version_folder,
)
from cifar10_serving.artifacts.rollout import MAX_ROLLOUT_BYTES, SERVING_FILE, Rollout, read_rollout
from cifar10_serving.artifacts.tutorial import MAX_TUTORIAL_BYTES, TUTORIAL_FILE
from cifar10_serving.errors import ArtifactError, RolloutError, StoreError
from cifar10_serving.stores.address import StoreAddress
from cifar10_serving.stores.base import Store, StoredFile
from service.errors import SettingsError
from service.registry.loading import MAX_REASON, UnresponsiveError
from service.registry.mirror_downloads import FULL, PARTS, Downloads, UnusableVersionError, content_of, is_intact
from service.registry.mirror_state import FailedDownload, MirrorState, exclusive
from service.registry.models_folder import MAX_VERSIONS, MODEL_NAME
from service.settings import Settings, variable

HIDDEN: Final = ".mirror"
INCOMING, REMOVED, ARCHIVE = "incoming", "removed", "archive"
MAX_MODELS: Final = 1_000
LOCK_LIMIT_S: Final = 10.0
MIN_AGE_S: Final = 1.0
RETRY_S: Final = 5.0
RETRY_HUNG_S: Final = 60.0
MAX_QUESTIONS: Final = 20
"""Number of files that one look asks the store about by name."""
LIMITS: Final = {SERVING_FILE: MAX_ROLLOUT_BYTES, TUTORIAL_FILE: MAX_TUTORIAL_BYTES}

Value = TypeVar("Value")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Selection:
    """The versions of a model to mirror.

    Args:
        newest: how many of the newest; those that serving.json names come on top.
        policy: `latest(N)` or `all`, for a model whose serving.json has none.
    """

    newest: int
    policy: str

    def choose(self, stored: Iterable[int], rollout: Rollout) -> set[int]:
        """Return the versions to mirror of those in the store."""
        policy = rollout.policy or self.policy
        newest_first = sorted(stored, reverse=True)
        if policy == "all":
            return set(newest_first[:MAX_VERSIONS])
        latest = int(policy.removeprefix("latest(").removesuffix(")")) if isinstance(policy, str) else 0
        listed = set(policy) if isinstance(policy, list) else set()
        chosen = set(newest_first[: min(MAX_VERSIONS, max(self.newest, latest))])
        return chosen | ((rollout.named | listed) & set(newest_first))


@dataclass(slots=True)
class _StoredModel:
    """A model in the store: the files of each version that has metadata, and the model's own files."""

    versions: dict[int, dict[str, StoredFile]] = field(default_factory=dict)
    files: dict[str, StoredFile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Change:
    """The differences between the store and the mirror of a model."""

    fetch: list[int]
    write: list[str]
    remove: list[int]
    drop: list[str]


class ModelsMirror:
    """Makes a folder follow a store. One thread at a time; other processes may use the same folder.

    Args:
        address: the store.
        folder: the folder that gets NAME/VERSION/; created if it isn't there.
        selection: the versions to mirror.
        store: opens the store; None for the one of the address.
        clock: returns the time, the same for all processes of the machine.
        min_age_s: a look that is no older counts as a new one.
        retry_s: time after which what failed for a reason that may be temporary is tried again.
        limit: factor on all time limits.

    Raises:
        SettingsError: the package for the store is missing, or the folder can't be written to.
    """

    def __init__(
        self,
        address: StoreAddress,
        folder: Path,
        selection: Selection,
        *,
        store: Callable[[], Store] | None = None,
        clock: Callable[[], float] = time.monotonic,
        min_age_s: float = MIN_AGE_S,
        retry_s: float = RETRY_S,
        limit: float = 1.0,
    ) -> None:
        self.address = address
        self.folder = folder
        self.has_more = False
        """True if there is more to mirror: the caller may load what is there, and call `update` again."""
        self._hidden = folder / HIDDEN
        self._selection = selection
        self._clock = clock
        self._min_age_s = min_age_s
        self._retry_s = retry_s
        self._limit = limit
        self._hidings = self._questions = 0
        self._stopped = False
        try:
            if store is None:
                address.check_package()
            for name in (INCOMING, REMOVED, PARTS):
                (self._hidden / name).mkdir(parents=True, exist_ok=True)
            self._downloads = Downloads(store or self._open_store, self._hidden, limit=limit)
        except StoreError as error:
            raise SettingsError(
                f"{variable('models')} = {address}: {error.problem}", expected=error.expected, remedy=error.remedy
            ) from None
        except OSError as error:
            raise SettingsError(
                f"{variable('models_mirror_folder')}: can't write to {folder}: {error.strerror}",
                expected="a folder that this user may write to, with room for the models",
            ) from None
        self._state = MirrorState.read(self._hidden / "state.json")

    @property
    def problem(self) -> str | None:
        """The reason why the store can't be followed, of this or another process; None if it can."""
        return self._state.problem

    @property
    def problems(self) -> list[str]:
        """`problem`, and what could not be mirrored of models and versions that have an earlier copy."""
        kept = [
            failed.reason
            for place, failed in sorted(self._state.failed.items())
            if place.endswith(tuple(LIMITS)) or (self.folder / place).exists()
        ]
        return [*([self.problem] if self.problem is not None else []), *kept]

    @property
    def last_success_s(self) -> float | None:
        """Time since 1970 at which the store last answered; None if it never did."""
        return self._state.succeeded_at_s or None

    def failed(self) -> dict[str, dict[int, str]]:
        """Return the reason for each version that could not be mirrored and has no earlier copy, by model."""
        found: dict[str, dict[int, str]] = {}
        for name, failed in self._state.failed.items():
            model, _, version = name.partition("/")
            if is_version_name(version) and not (self.folder / name).exists():
                found.setdefault(model, {})[int(version)] = failed.reason
        return found

    def stop(self) -> None:
        """Abandon the current update and all later ones; thread-safe."""
        self._stopped = True
        self._downloads.stop()

    def update(self, *, asked: bool = False) -> None:
        """Look at the store, and mirror what is new of one model.

        Args:
            asked: also retry what failed, and repair what was damaged; do not rely on an earlier look.

        Raises:
            CallsStoppedError: `stop` was called.
        """
        asked_s = self._clock()
        self.has_more = False
        try:
            self._hidden.mkdir(parents=True, exist_ok=True)
            with exclusive(self._hidden / "lock", LOCK_LIMIT_S * self._limit, lambda: self._stopped) as is_mine:
                self._state = MirrorState.read(self._hidden / "state.json")
                if is_mine and not self._is_fresh(asked_s, asked=asked):
                    self._clean()
                    try:
                        self._look(asked=asked)
                    finally:
                        self._state.write(self._hidden / "state.json")
                self.has_more = self._state.unfinished or not is_mine
        except OSError as error:
            self._state.problem = f"the mirror can't write to {self.folder}: {error.strerror or error}"

    def _is_fresh(self, asked_s: float, *, asked: bool) -> bool:
        """Return whether another process has just looked at the store."""
        now_s, state = self._clock(), self._state
        if state.unfinished:
            return False
        return asked_s <= state.retried_s <= now_s if asked else asked_s - self._min_age_s < state.looked_s <= now_s

    def _look(self, *, asked: bool) -> None:
        state = self._state
        state.looked_s = self._clock()
        state.retried_s = state.looked_s if asked else state.retried_s
        state.unfinished = False
        try:
            stored = _by_model(self._downloads.listing())
        except (StoreError, OSError) as error:
            state.problem = self._described(error)
            return
        local = {name: published_versions(self.folder, name) for name in self._local_models()}
        if any(local.values()) and not any(model.versions for model in stored.values()):
            state.problem = f"{self.address} lists no version; keeping the mirrored ones"
            return
        state.problem = None
        state.succeeded_at_s = time.time()
        if asked:
            self._retry_all(local)
        self._forget(stored)
        due = sorted((self._tried_s(name), name) for name, model in stored.items() if self._is_due(name, model))
        waiting = [name for _, name in due[1:]]
        if due:
            self._follow(due[0][1], stored[due[0][1]])
        # What failed before waits for later looks: otherwise, as long as it fails, the caller would never be done.
        state.unfinished = any(tried_s == -math.inf for tried_s, _ in due[1:])
        absent, state.absent = state.absent, set()
        self._questions = 0
        for name in sorted({*stored, *local}):
            if name in waiting or name in state.held:
                state.absent |= {place for place in absent if place.startswith(f"{name}/")}
            else:
                self._remove(name, stored.get(name, _StoredModel()), absent, asked=asked)

    def _tried_s(self, name: str) -> float:
        """Return when something of a model that failed was last to be tried again; minus infinity if nothing is."""
        failed = [failed for place, failed in self._state.failed.items() if place.startswith(f"{name}/")]
        return max((each.retry_at_s for each in failed if each.retry_at_s is not None), default=-math.inf)

    def _retry_all(self, local: Mapping[str, Iterable[int]]) -> None:
        """Make everything due that failed before, or was damaged since."""
        self._state.failed, self._state.held = {}, {}
        for name, versions in local.items():
            for number in versions:
                if not is_intact(version_folder(self.folder, name, number)):
                    self._state.tokens.pop(f"{name}/{number}", None)

    def _is_due(self, name: str, model: _StoredModel) -> bool:
        """Return whether there is something to mirror of a model that may be tried now."""
        if self._state.held.get(name, -math.inf) > self._clock():
            return False
        self._state.held.pop(name, None)
        change = self._change(name, model, self._rollout(name))
        return bool(change.fetch or change.write)

    def _change(self, name: str, model: _StoredModel, rollout: Rollout | None) -> _Change:
        """Return what differs; with an invalid rollout (None), nothing is to be removed."""
        local = set(published_versions(self.folder, name))
        chosen = self._selection.choose(model.versions, rollout or Rollout())
        # As long as something newer is not there, an older version may be the only one that can answer.
        kept = set() if chosen <= local else set(model.versions)
        return _Change(
            fetch=[number for number in sorted(chosen, reverse=True) if self._differs(name, model, str(number))],
            write=[file for file in LIMITS if file in model.files and self._differs(name, model, file)],
            remove=sorted(local - chosen - kept) if rollout is not None else [],
            drop=[file for file in LIMITS if file not in model.files and (self.folder / name / file).exists()],
        )

    def _differs(self, name: str, model: _StoredModel, entry: str) -> bool:
        """Return whether the store has another version or file than the mirror, and it may be tried now."""
        place = f"{name}/{entry}"
        if (self.folder / place).exists() and self._state.tokens.get(place) == _stored(model, entry).token:
            return False
        failed = self._state.failed.get(place)
        if failed is None or failed.token != _token(model, entry):
            return True
        return failed.retry_at_s is not None and failed.retry_at_s <= self._clock()

    def _follow(self, name: str, model: _StoredModel) -> None:
        """Mirror what is new of a model: stage all of it, then show it in an order in which no wrong version answers.

        Versions that serving.json names come first, then serving.json, then other versions. If one of the first two
        can't be mirrored now, nothing of the model changes: another version might answer instead.
        """
        contents: dict[str, bytes] = {}
        for file in self._change(name, model, None).write:
            read = partial(self._downloads.read, f"{name}/{file}", model.files[file], LIMITS[file])
            content = self._tried(name, model, file, read)
            if content is not None:
                contents[file] = content
            elif file == SERVING_FILE and self._hold(name, file):
                return
        rollout = _parsed(contents[SERVING_FILE]) if SERVING_FILE in contents else self._rollout(name)
        needed = _needed(rollout)
        staged: list[int] = []
        fetch = self._change(name, model, rollout).fetch
        for number in sorted(fetch, key=lambda number: (number not in needed, -number)):
            stage = partial(
                self._downloads.stage,
                f"{name}/{number}",
                model.versions[number],
                version_folder(self._hidden / INCOMING, name, number),
                version_folder(self.folder, name, number),
            )
            is_new = self._tried(name, model, str(number), stage)
            if is_new:
                staged.append(number)
            elif is_new is not None:
                self._done(name, model, str(number))
            elif number in needed and self._hold(name, str(number)):
                return
        self._show(name, model, [number for number in staged if number in needed])
        (self.folder / name).mkdir(exist_ok=True)
        for file, content in contents.items():
            if content_of(self.folder / name / file) != content:
                with replaced_file(self.folder / name / file) as stream:
                    stream.write(content)
            self._done(name, model, file)
        self._show(name, model, [number for number in staged if number not in needed])

    def _tried(self, name: str, model: _StoredModel, entry: str, call: Callable[[], Value]) -> Value | None:
        """Return the result of a call; None, after noting why, if it fails."""
        try:
            return call()
        except (UnusableVersionError, ArtifactError, StoreError, OSError) as error:
            is_final = isinstance(error, UnusableVersionError | ArtifactError)
            retry_s = RETRY_HUNG_S if isinstance(error, UnresponsiveError) else self._retry_s
            self._state.failed[f"{name}/{entry}"] = FailedDownload(
                token=_token(model, entry),
                reason=self._described(error),
                retry_at_s=None if is_final else self._clock() + retry_s,
            )
            return None

    def _hold(self, name: str, entry: str) -> bool:
        """Change nothing of a model until something that failed is tried again; return False if it never is."""
        retry_at_s = self._state.failed[f"{name}/{entry}"].retry_at_s
        if retry_at_s is not None:
            self._state.held[name] = retry_at_s
        return retry_at_s is not None

    def _show(self, name: str, model: _StoredModel, numbers: Iterable[int]) -> None:
        """Rename staged versions into place, instead of earlier ones of the same numbers."""
        for number in numbers:
            target = version_folder(self.folder, name, number)
            target.parent.mkdir(exist_ok=True)
            if target.exists():
                self._hide(target)
            move_into_place(version_folder(self._hidden / INCOMING, name, number), target)
            self._done(name, model, str(number))

    def _remove(self, name: str, model: _StoredModel, absent: set[str], *, asked: bool) -> None:
        """Remove what the store no longer has, if it confirms that."""
        change = self._change(name, model, self._rollout(name))
        for number in change.remove:
            is_older = number in model.versions
            if is_older or self._is_gone(f"{name}/{number}", METADATA_FILE, absent, asked=asked):
                why = "older than the versions to mirror" if is_older else "no longer in the store"
                logger.info("removing %s/%d from the mirror: it is %s", name, number, why)
                self._hide(version_folder(self.folder, name, number))
        for file in change.drop:
            if self._is_gone(f"{name}/{file}", "", absent, asked=asked):
                logger.info("removing %s/%s from the mirror: it is no longer in the store", name, file)
                (self.folder / name / file).unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or never there
            (self.folder / name).rmdir()

    def _is_gone(self, place: str, file: str, absent: set[str], *, asked: bool) -> bool:
        """Ask the store for a file by name; a polling look only notes the first time that a listing lacks it."""
        self._state.absent.add(place)
        if (place not in absent and not asked) or self._questions == MAX_QUESTIONS:
            return False
        self._questions += 1
        stored = f"{place}/{file}" if file else place
        try:
            is_there = self._downloads.exists(stored)
        except (StoreError, OSError) as error:
            self._state.problem = self._described(error)
            return False
        if is_there:
            self._state.problem = f"{self.address}: the listing is not complete: it lacks {stored}, which is there"
        else:
            self._state.absent.discard(place)
            self._state.tokens.pop(place, None)
        return not is_there

    def _hide(self, folder: Path) -> None:
        self._hidings += 1
        removed = self._hidden / REMOVED / f"{os.getpid()}-{self._hidings}"
        folder.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)

    def _done(self, name: str, model: _StoredModel, entry: str) -> None:
        self._state.tokens[f"{name}/{entry}"] = _stored(model, entry).token
        self._state.failed.pop(f"{name}/{entry}", None)

    def _forget(self, stored: Mapping[str, _StoredModel]) -> None:
        """Forget the failures, and delete the unfinished downloads, of what is no longer in the store."""
        self._state.failed = {
            place: failed for place, failed in self._state.failed.items() if _is_listed(place, stored)
        }
        self._state.held = {name: until_s for name, until_s in self._state.held.items() if name in stored}
        for folder in (self._hidden / INCOMING).glob("*/*"):
            if not _is_listed(f"{folder.parent.name}/{folder.name}", stored):
                shutil.rmtree(folder, ignore_errors=True)

    def _described(self, error: Exception) -> str:
        if isinstance(error, UnresponsiveError):
            return f"{self.address} does not answer: {error.strerror}"
        if isinstance(error, FileNotFoundError):
            return f"{self.address}: a file that was listed is gone"
        if isinstance(error, OSError):
            is_full = error.errno in FULL
            return f"{'the disk is full: ' if is_full else 'the mirror: '}{error.strerror or error}"
        return printable(str(error).replace(f"{self._hidden / INCOMING}{os.sep}", ""), MAX_REASON)

    def _rollout(self, name: str) -> Rollout | None:
        """Return the mirrored rollout, or an empty one; None if it is not valid."""
        try:
            return read_rollout(self.folder, name) or Rollout()
        except RolloutError:
            return None

    def _local_models(self) -> list[str]:
        return [entry.name for entry in self.folder.iterdir() if MODEL_NAME.fullmatch(entry.name)]

    def _clean(self) -> None:
        """Delete what an interrupted process left; the lock is held, so that nobody else needs it."""
        for place in (PARTS, REMOVED):
            folder = self._hidden / place
            folder.mkdir(parents=True, exist_ok=True)
            for entry in folder.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                elif not entry.name.startswith(f"{os.getpid()}-"):
                    entry.unlink(missing_ok=True)

    def _open_store(self) -> Store:
        if self.address.is_archive:
            from cifar10_serving.stores.archive import ArchiveStore

            return ArchiveStore(self.address, self._hidden / ARCHIVE)
        from cifar10_serving.stores.objects import ObjectStore

        return ObjectStore(self.address)


def open_mirror(settings: Settings) -> ModelsMirror | None:
    """Return the mirror of the store that the settings name; None if they name a folder.

    Raises:
        SettingsError: the package for the store is missing, or the mirror's folder can't be written to.
    """
    if settings.models_address is None:
        return None
    return ModelsMirror(
        settings.models_address,
        settings.models_folder,
        Selection(settings.models_mirror_versions, settings.version_policy),
        min_age_s=min(MIN_AGE_S, settings.poll_interval_s / 2),
    )


def _by_model(listing: Mapping[str, StoredFile]) -> dict[str, _StoredModel]:
    """Return the models in a listing; a version without metadata is being written or removed, and doesn't count."""
    models: dict[str, _StoredModel] = {}
    for path, stored in listing.items():
        name, _, rest = path.partition("/")
        version, _, file = rest.partition("/")
        if MODEL_NAME.fullmatch(name) is None or not rest:
            continue
        if name not in models and len(models) == MAX_MODELS:
            raise StoreError(f"the store has more than {MAX_MODELS:,} models", expected="the address of models only")
        model = models.setdefault(name, _StoredModel())
        if rest in LIMITS:
            model.files[rest] = stored
        elif is_version_name(version) and file:
            model.versions.setdefault(int(version), {})[file] = stored
    for model in models.values():
        model.versions = {number: files for number, files in model.versions.items() if METADATA_FILE in files}
    return {name: model for name, model in models.items() if model.versions or model.files}


def _stored(model: _StoredModel, entry: str) -> StoredFile:
    """Return the file whose token stands for a version, or for a file of the model."""
    return model.versions[int(entry)][METADATA_FILE] if is_version_name(entry) else model.files[entry]


def _token(model: _StoredModel, entry: str) -> str:
    """Return a token of all that the store has of a version, or of a file of the model."""
    files = model.versions[int(entry)] if is_version_name(entry) else {entry: model.files[entry]}
    known = "\n".join(f"{name} {stored.size_bytes} {stored.token}" for name, stored in sorted(files.items()))
    return hashlib.sha256(known.encode()).hexdigest()


def _is_listed(place: str, stored: Mapping[str, _StoredModel]) -> bool:
    name, _, entry = place.partition("/")
    model = stored.get(name, _StoredModel())
    return int(entry) in model.versions if is_version_name(entry) else entry in model.files


def _needed(rollout: Rollout | None) -> frozenset[int]:
    """Return the versions that a rollout names."""
    if rollout is None:
        return frozenset()
    return rollout.named.union(rollout.policy if isinstance(rollout.policy, list) else ())


def _parsed(content: bytes) -> Rollout | None:
    try:
        return parse_document(content, Rollout)
    except DocumentError:
        return None
