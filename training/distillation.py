"""Training targets for distillation: teachers' answers, computed once by larger published models and cached on disk.

A teacher answers several times slower than the student trains, so it answers for a fixed number of augmented copies of
each image ("views"), once for all runs and styles. Views are regenerated in each epoch; only the answers are stored,
one file per teacher and view. A file's name contains a hash of its inputs, and it is replaced atomically, so a killed
run loses at most one view. `training.fit` trains on them.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.files import replaced_file
from cifar10_serving.artifacts.layout import read_metadata, verify
from cifar10_serving.artifacts.metadata import SAVED_MODEL_FILE
from cifar10_serving.runtimes.base import Images, Probabilities
from training.augmentation import augment, cut_mix
from training.data.dataset import split_rows
from training.errors import CheckpointError, RecipeError
from training.progress import Progress
from training.recipes.recipe import HELD_OUT_FRACTION, Distillation, Recipe

BLOCK: Final = 500
"""Number of images that are augmented, mixed and sent to the teacher together."""

Answers = NDArray[np.float16]


class Teacher(Protocol):
    """A loaded model."""

    def predict(self, images: Images) -> Probabilities:
        """Return probabilities (n, classes) float32 for images (n, height, width, 3) uint8."""
        ...


class TaughtViews:
    """The views of a run's images, with the teachers' answers.

    Training and held-out images are never mixed with each other. So the same answers work for runs with and without
    validation, and no held-out image leaks into training.

    Args:
        images: (n, height, width, 3) uint8, training and validation images.
        recipe: a recipe with distillation.
        labels: names of the classes, which must be the teachers'.
        models: the folder of the teachers' published versions.
        folder: caches the answers; None keeps them in memory only.
    """

    def __init__(
        self, images: Images, recipe: Recipe, *, labels: Sequence[str], models: Path, folder: Path | None
    ) -> None:
        if recipe.distillation is None:
            raise ValueError("a recipe without distillation has no views")
        self._images = images
        self._labels = tuple(labels)
        self._distillation: Distillation = recipe.distillation
        self._parts = split_rows(len(images), fraction=HELD_OUT_FRACTION, seed=recipe.split_seed)
        self._models = models
        self._folder = folder
        self._views_sha256 = self._fingerprint()
        self._answers: dict[tuple[str, int], Answers] = {}
        self._needed = range(min(recipe.distillation.views, recipe.epochs))

    def prepare(self, progress: Progress) -> float:
        """Load or compute all answers that the run needs; return the computing time in seconds.

        Raises:
            ArtifactError: a teacher is not published, or is incomplete.
            RecipeError: a teacher has other classes.
            ModelLoadError: a teacher can't be loaded.
            CheckpointError: the folder can't be written to.
        """
        start_s = time.monotonic()
        computed = [self._prepare(teacher, progress) for teacher in self._distillation.teachers]
        return time.monotonic() - start_s if any(computed) else 0.0

    def of_epoch(self, epoch: int) -> tuple[Images, NDArray[np.float32]]:
        """Return the view (n, height, width, 3) uint8 and the targets (n, classes) float32 of an epoch, from 0."""
        view = epoch % self._distillation.views
        answers = [self._answers[teacher, view].astype(np.float32) for teacher in self._distillation.teachers]
        images = np.empty_like(self._images)
        for rows, changed in self._blocks(view):
            images[rows] = changed
        return images, np.mean(answers, axis=0)

    def _blocks(self, view: int) -> Iterator[tuple[NDArray[np.int64], Images]]:
        random = np.random.default_rng([self._distillation.seed, view])
        for part in self._parts:
            order = random.permutation(part)
            for start in range(0, len(order), BLOCK):
                rows = order[start : start + BLOCK]
                images = augment(self._images[rows], self._distillation.augmentation, random)
                yield rows, cut_mix(images, self._distillation.cutmix_share, random)

    def _prepare(self, name: str, progress: Progress) -> bool:
        folder = self._models / name
        metadata = read_metadata(folder)
        verify(folder, metadata)
        if tuple(metadata.labels) != self._labels:
            raise RecipeError(
                f"the teacher {name} has other classes", expected=f"the labels {', '.join(self._labels)}, in this order"
            )
        files = {view: self._file(name, view, metadata.files[SAVED_MODEL_FILE].sha256) for view in self._needed}
        for view, file in files.items():
            kept = _read(file, (len(self._images), len(self._labels)))
            if kept is not None:
                self._answers[name, view] = kept
        missing = [view for view in self._needed if (name, view) not in self._answers]
        if not missing:
            progress.tell(f"using cached answers of {name} in {self._folder}")
            return False
        progress.tell(f"computing answers of {name} for {len(missing)} views of {len(self._images):,} images (cached)")
        teacher = _load(folder)
        progress.start(f"answers of {name}", len(missing) * len(self._images))
        for view in missing:
            self._answers[name, view] = self._ask(teacher, view, progress)
            _write(files[view], self._answers[name, view])
        return True

    def _ask(self, teacher: Teacher, view: int, progress: Progress) -> Answers:
        answers = np.empty((len(self._images), len(self._labels)), np.float16)
        for rows, images in self._blocks(view):
            answers[rows] = teacher.predict(images)
            progress.advance(len(rows))
        return answers

    def _file(self, name: str, view: int, model_sha256: str) -> Path | None:
        if self._folder is None:
            return None
        made_by = hashlib.sha256(f"{self._views_sha256} {model_sha256}".encode()).hexdigest()[:12]
        return self._folder / f"answers-{name.replace('/', '-')}-{made_by}-{view}.npy"

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self._images.tobytes())
        for part in self._parts:
            digest.update(part.tobytes())
        digest.update(self._distillation.model_dump_json(include={"augmentation", "cutmix_share", "seed"}).encode())
        return digest.hexdigest()


def _load(folder: Path) -> Teacher:
    """Load a published version at OpenVINO's fastest precision here; the rounding doesn't matter for targets."""
    from cifar10_serving.runtimes.openvino import OpenVinoRuntime, has_bfloat16  # JAX trains without OpenVINO

    return OpenVinoRuntime("bfloat16" if has_bfloat16() else "float32").load(folder)


def _read(file: Path | None, shape: tuple[int, int]) -> Answers | None:
    if file is None:
        return None
    try:
        answers: Answers = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None  # missing or damaged: compute it again
    return answers if answers.shape == shape and answers.dtype == np.float16 else None


def _write(file: Path | None, answers: Answers) -> None:
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(file) as stream:
            np.save(stream, answers)
    except OSError as error:
        raise CheckpointError(
            f"can't write {file}: {error.strerror}",
            expected=f"a writable folder with {answers.nbytes:,} bytes of free space",
            remedy="free up space, or choose another folder with --checkpoints",
        ) from None
