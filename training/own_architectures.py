"""Architectures beside the six: a file in `training/architectures/`, or any file that the command line names.

A file in the package registers its function, and the architecture can be trained by its name:

    @register("tiny", title="Tiny CNN", description="two convolutions")
    def tiny(input_shape, class_count): ...

`--architecture my_net.py:build` runs that file alone and takes its function `build`, registered or not. The function
gets (height, width, 3) and the number of classes, and returns a `keras.Model` from images scaled by the recipe to
probabilities (batch, classes). Nothing here imports Keras, so that a mistyped name is reported at once.
"""

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cifar10_serving.artifacts.metadata import InputShape
from training.cifar10 import MODEL_NAMES
from training.errors import ArchitectureError

PACKAGE: Final = "training.architectures"
FOLDER: Final = Path(__file__).parent / "architectures"
BUILT_IN: Final = {"small_cnn", "transfer"}
"""Files with the six architectures."""
DEFAULT_FUNCTION: Final = "build"

BuildFunction = Callable[[InputShape, int], Any]


@dataclass(frozen=True)
class OwnArchitecture:
    """An architecture beside the six; `sha256` is the hash of a file that the command line named.

    `recipes` maps a recipe's name to a function from the architecture's name to the recipe.
    """

    name: str
    title: str
    description: str
    build: BuildFunction
    recipes: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)
    sha256: str | None = None


_registered: dict[str, OwnArchitecture] = {}


def register(
    name: str, *, title: str, description: str = "", recipes: Mapping[str, Callable[[str], Any]] | None = None
) -> Callable[[BuildFunction], BuildFunction]:
    """Register a function that builds a network.

    Args:
        name: in commands, metadata and the names of checkpoints.
        title: for readers.
        description: one line about the network.
        recipes: recipe name -> function that returns the recipe; `tuned` and `tutorial` have defaults.
    """

    def add(build: BuildFunction) -> BuildFunction:
        if name in MODEL_NAMES:
            raise ArchitectureError(f"an own architecture with the name {name}", expected="a name of its own")
        _registered[name] = OwnArchitecture(name, title, description or title, build, recipes or {})
        return build

    return add


def registered(name: str) -> OwnArchitecture | None:
    """Return an architecture that was registered or loaded before; None for others."""
    return _registered.get(name)


def find(name: str) -> OwnArchitecture | None:
    """Return an architecture by its name after importing the files in `training/architectures/`; None without one."""
    if name not in _registered:
        for module in _files_in_package():
            importlib.import_module(f"{PACKAGE}.{module}")
    return _registered.get(name)


def names() -> list[str]:
    """List the registered architectures."""
    return sorted(_registered)


def load_file(spec: str) -> OwnArchitecture:
    """Run a file named on the command line, `FILE.py:FUNCTION`, and return its architecture.

    Raises:
        ArchitectureError: there is no such file or function, or running it raises an error.
    """
    path, colon, function = spec.rpartition(":")
    if not colon or path == "":
        path, function = spec, DEFAULT_FUNCTION
    file = Path(path).expanduser()
    if not file.is_file():
        raise ArchitectureError(
            f"{'a folder' if file.is_dir() else 'no file'} {file}",
            expected="a Python file and the name of a function in it, such as my_net.py:build",
        )
    module = _run(file)
    build = getattr(module, function, None)
    if not callable(build):
        raise ArchitectureError(
            f"{file} has no function {function}",
            expected="a function from (height, width, 3) and the number of classes to a keras.Model",
            remedy=f"give its name: --architecture {file.name}:FUNCTION",
        )
    name = f"{file.name}:{function}"
    architecture = OwnArchitecture(
        name,
        title=file.stem,
        description=f"own architecture, {name}",
        build=build,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
    )
    _registered[name] = architecture
    return architecture


def _run(file: Path) -> Any:
    description = importlib.util.spec_from_file_location(f"own_architecture_{file.stem}", file)
    if description is None or description.loader is None:
        raise ArchitectureError(f"{file} is not a Python file", expected="a name that ends in .py")
    module = importlib.util.module_from_spec(description)
    sys.modules[description.name] = module  # data classes look their module up
    try:
        description.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the user's own code
        reason = " ".join(str(error).split())
        raise ArchitectureError(
            f"running {file} raises {type(error).__name__}: {reason}", expected="a file that can be imported"
        ) from None
    return module


def _files_in_package() -> Iterator[str]:
    return (module.name for module in pkgutil.iter_modules([str(FOLDER)]) if module.name not in BUILT_IN)
