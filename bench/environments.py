"""Virtual environments of the servers, below .bench/; each is recreated if its locked requirements change."""

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.errors import BenchError

ROOT: Final = Path(__file__).resolve().parent.parent
WORK: Final = ROOT / ".bench"
INSTALL_TIMEOUT_S: Final = 1800
NOT_WORTH_TELLING: Final = ("WARNING:", "[notice]")


@dataclass(frozen=True)
class Environment:
    """A virtual environment: its name below .bench/venvs/, its requirements, and the packages to report versions of."""

    name: str
    requirements: Path
    packages: tuple[str, ...]
    interpreter: str | None = None
    """The only interpreter that it can be made with; None for any."""
    library: str | None = None
    """A shared library that the interpreter must find."""

    @property
    def folder(self) -> Path:
        """The folder of the environment."""
        return WORK / "venvs" / self.name

    @property
    def site_packages(self) -> Path:
        """The folder of the environment's packages."""
        return next((self.folder / "lib").glob("python3.*/site-packages"), self.folder)

    @property
    def python(self) -> Path:
        """The interpreter of the environment."""
        return self.folder / "bin/python"


OURS: Final = Environment("ours", ROOT / "requirements/serve.txt", ("openvino", "fastapi", "uvicorn", "pillow"))
BASELINES: Final = Environment(
    "baselines", ROOT / "bench/baselines/requirements.txt", ("uvicorn", "uvloop", "python-multipart")
)


def of_alternative(name: str, *packages: str) -> Environment:
    """Return the environment of bench/alternatives/NAME."""
    return Environment(name, ROOT / "bench/alternatives" / name / "requirements.txt", (*packages, "pillow"))


def install(environment: Environment) -> None:
    """Create the environment, unless it already exists with the same requirements.

    Raises:
        BenchError: it can't be installed; the message has the installer's reason.
    """
    stamp = environment.folder / "requirements.sha256"
    digest = hashlib.sha256(environment.requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    variables = dict(os.environ)
    if environment.interpreter:
        _require(environment.name, environment.interpreter, environment.library)
        variables["PYTHON"] = environment.interpreter
    print(f"installing {environment.requirements.relative_to(ROOT)}", flush=True)
    command = ["scripts/install", str(environment.folder), str(environment.requirements)]
    try:
        result = subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{environment.name} was not installed within {INSTALL_TIMEOUT_S} s") from None
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.strip() and not line.startswith(NOT_WORTH_TELLING)]
        raise BenchError(f"{environment.name} can't be installed: {lines[-1] if lines else result.returncode}")
    stamp.write_text(digest)


def _require(name: str, interpreter: str, library: str | None) -> None:
    """Check that an interpreter is installed, and finds a library."""
    if shutil.which(interpreter) is None:
        raise BenchError(f"{name} needs {interpreter}, which is not installed", remedy="install it, as with apt-get")
    if library:
        program = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
        found = subprocess.run([interpreter, "-c", program, library], capture_output=True, check=False)
        if found.returncode:
            raise BenchError(f"{name} needs {library}, which is not installed", remedy="install it, as with apt-get")


def versions(environment: Environment) -> dict[str, str]:
    """Map Python and each reported package to its installed version."""
    program = (
        "import importlib.metadata as m, json, platform, sys; "
        "print(json.dumps({'Python': platform.python_version(), **{name: m.version(name) for name in sys.argv[1:]}}))"
    )
    result = subprocess.run(
        [str(environment.python), "-c", program, *environment.packages], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(result.stdout)
    return found
