"""The root of the project's error tree, and the errors of published artifacts.

    ProjectError                    every error that a user may see
    ├── ArtifactError               a published version can't be used
    │   ├── ArtifactMissingError      the folder, or a file in it, does not exist
    │   ├── ArtifactCorruptError      a file differs from what was published
    │   └── MetadataError             metadata.json can't be read, or is not valid
    ├── PublishError                a version could not be published
    ├── RolloutError                serving.json can't be read or is not valid
    ├── StoreError                  an object store or archive of models can't be used
    ├── RuntimeUnavailableError     (runtime) the requested runtime, device or precision is not available
    ├── ModelLoadError              (runtime) a version can't be loaded or answers wrongly
    │   └── UnsafeGraphError          its graph has ops that do more than compute
    ├── TrainingError               (training) see training.errors
    └── ServiceError                (service) see service.errors

Each error says what was wrong, what was expected and what to do, so that users never need the traceback. As text an
error is one line: line breaks and terminal codes in names and values are escaped.
"""

from cifar10_serving.text import printable


class ProjectError(Exception):
    """An error for users: what was wrong, what was expected, and what to do.

    Args:
        problem: what was wrong, with the thing and the value.
        expected: what would have been right; may be empty.
        remedy: what to do about it; may be empty.
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
    """Raised for a published version that can't be used."""


class ArtifactMissingError(ArtifactError):
    """Raised if the version's folder, or a file that its metadata lists, does not exist."""


class ArtifactCorruptError(ArtifactError):
    """Raised for a file whose size or SHA-256 differs from what was published."""


class MetadataError(ArtifactError):
    """Raised if metadata.json is not JSON, or does not match `cifar10_serving.artifacts.metadata.ModelMetadata`."""


class PublishError(ProjectError):
    """Raised for a version that could not be published; nothing of it is left behind."""


class RolloutError(ProjectError):
    """Raised when serving.json is unreadable, breaks its schema (`artifacts.rollout.Rollout`), or names no version."""


class StoreError(ProjectError):
    """Raised if an object store or an archive of models can't be used: its address, package, permission or network."""


class RuntimeUnavailableError(ProjectError):
    """Raised if the requested runtime, device or precision is not available on this machine."""


class ModelLoadError(ProjectError):
    """Raised if a runtime could not load a version, or its answers differ from the golden ones."""


class UnsafeGraphError(ModelLoadError):
    """Raised for a graph with an op that is not known to only compute; it was not loaded."""
