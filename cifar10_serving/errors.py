"""The root of the project's error tree, and the errors of published artifacts.

    ProjectError                    every error that a user may meet
    ├── ArtifactError               a published version can't be used
    │   ├── ArtifactMissingError      the folder, or a file in it, is not there
    │   ├── ArtifactCorruptError      a file differs from what was published
    │   └── MetadataError             metadata.json can't be read, or says something illegal
    ├── PublishError                a version could not be published
    ├── RolloutError                serving.json can't be read, or contradicts itself or what is published
    ├── RuntimeUnavailableError     (runtime) the runtime, device or precision asked for isn't here
    ├── ModelLoadError              (runtime) a version can't be loaded or answers wrongly
    │   └── UnsafeGraphError          its graph has ops that do more than compute
    ├── TrainingError               (training) see training.errors
    └── ServiceError                (service) see service.errors

Each says what was wrong, what was expected and what to do; no user ever needs the traceback. As text an error is one
line: a name or value in it that holds a line end, or a terminal's code, is escaped.
"""

from cifar10_serving.text import printable


class ProjectError(Exception):
    """What was wrong, what was expected, what to do.

    Args:
        problem: what was wrong, naming the thing and the value.
        expected: what would have been right; empty where `problem` says it all.
        remedy: what the reader can do about it; empty where there is nothing to do.
    """

    def __init__(self, problem: str, *, expected: str = "", remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.expected = expected
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [self.problem]
        if self.expected:
            parts.append(f"Expected: {self.expected}")
        if self.remedy:
            parts.append(f"What to do: {self.remedy}")
        text = ". ".join(part.rstrip(".") for part in parts)
        return printable(text if text.endswith("?") else f"{text}.")


class ArtifactError(ProjectError):
    """A published version can't be used."""


class ArtifactMissingError(ArtifactError):
    """The version's folder, or a file that its metadata lists, is not there."""


class ArtifactCorruptError(ArtifactError):
    """A file's size or SHA-256 differs from what was published."""


class MetadataError(ArtifactError):
    """metadata.json is not JSON, or not what `cifar10_serving.artifacts.metadata.ModelMetadata` allows."""


class PublishError(ProjectError):
    """A version could not be published; nothing of it is left behind."""


class RolloutError(ProjectError):
    """Raised when serving.json is unreadable, breaks its schema (`artifacts.rollout.Rollout`), or names no version."""


class RuntimeUnavailableError(ProjectError):
    """The runtime, device or precision that was asked for is not available on this machine."""


class ModelLoadError(ProjectError):
    """A runtime could not load a version, or its answers differ from the golden ones."""


class UnsafeGraphError(ModelLoadError):
    """The graph of a version has an op that is not known to only compute; it was not loaded."""
