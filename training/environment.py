"""Hardware and package versions of a training process, for the metadata of the published version."""

from dataclasses import dataclass
from typing import Self

from training.backend import accelerators, backend
from training.provenance import hardware, package_versions


@dataclass(frozen=True)
class Environment:
    """`hardware` names GPUs before the processor; `versions` is package -> version."""

    hardware: str
    versions: dict[str, str]

    @classmethod
    def here(cls) -> Self:
        """Return the environment of this process."""
        return cls(", ".join([*accelerators(), hardware()]), package_versions(backend()))
